"""MuData of which the counts stay in a file, .h5mu or .zarr."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import _blocks, _fitted

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

QUICK: dict[str, Any] = {
    "n_clusters": 3,
    "max_epochs_pretrain": 3,
    "max_epochs": 2,
    "progress_bar": False,
    "accelerator": "cpu",
    "write_layers": "none",
}


def cells() -> MuData:
    mdata = smm.datasets.simulate_citeseq(120, n_vars=60, n_prot=8, n_clusters=3)
    mdata["rna"].layers["raw"] = mdata["rna"].X.copy()
    mdata["prot"].X = mdata["prot"].X.toarray()
    mdata["rna"].obsm["X_pca"] = np.ones((120, 2), np.float32)
    mdata.obsm["X_umap"] = np.arange(240, dtype=np.float32).reshape(120, 2)
    mdata.uns["note"] = "kept"
    return mdata


@pytest.fixture(params=[".h5mu", ".zarr"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"cells{request.param}"
    getattr(cells(), f"write_{request.param.lstrip('.')}")(path)
    return path


@pytest.fixture
def never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of ten cells, or 75; a sparse matrix can't be read whole."""
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 600)
    matrix = anndata._core.sparse_dataset.BaseCompressedSparseDataset
    monkeypatch.setattr(matrix, "to_memory", lambda self: pytest.fail("the matrix is read whole"))


def stored(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {file.name: file.read_bytes() for file in files if file.is_file()}


@pytest.mark.usefixtures("never_whole")
def test_everything_is_there_and_counts_stay_in_the_file(path: Path) -> None:
    mdata, expected = smm.read_lazy(path), cells()
    assert list(mdata.mod) == ["rna", "prot"]
    assert mdata.obs_names.equals(expected.obs_names)
    assert mdata.obs.equals(expected.obs)
    assert mdata.uns["note"] == "kept"
    np.testing.assert_array_equal(mdata.obsm["X_umap"], expected.obsm["X_umap"])
    np.testing.assert_array_equal(mdata["rna"].obsm["X_pca"], expected["rna"].obsm["X_pca"])
    for name, layer in (("rna", None), ("rna", "raw"), ("prot", None)):
        assert _mudata.counts_in_file(mdata.mod[name], modality=name, layer=layer)
        found = _mudata.get_counts(mdata.mod[name], modality=name, layer=layer)
        in_memory = _mudata.get_counts(expected.mod[name], modality=name, layer=layer)
        np.testing.assert_array_equal(found.toarray(), in_memory.toarray())


@pytest.mark.usefixtures("never_whole")
@pytest.mark.parametrize("layer", [None, "raw"])
def test_labels_are_those_of_the_data_in_memory(path: Path, layer: str | None) -> None:
    before, layers = stored(path), {"rna": layer}
    mdata, in_memory = smm.read_lazy(path), cells()
    for each in (mdata, in_memory):
        smm.tl.scmag(each, layer=layers, **QUICK)
    np.testing.assert_array_equal(mdata.obs["scmag"], in_memory.obs["scmag"])
    np.testing.assert_array_equal(mdata.obsm["X_scmag"], in_memory.obsm["X_scmag"])
    assert mdata.uns["scmag"]["made_from"]["counts"] == in_memory.uns["scmag"]["made_from"]["counts"]
    assert stored(path) == before


@pytest.mark.filterwarnings("ignore")
def test_peak_is_lower_than_of_the_data_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = smm.datasets.simulate_citeseq(400, n_vars=3000, n_prot=8, n_clusters=3)
    mdata["rna"].var["highly_variable"] = np.arange(3000) < 100
    mdata.write_zarr(tmp_path / "cells.zarr")
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 60_000)
    monkeypatch.setattr(_fitted, "LARGE", 0)
    peaks = []
    for read in (mudata.read_zarr, smm.read_lazy):
        tracemalloc.start()
        try:
            smm.pp.manifold_fit(read(tmp_path / "cells.zarr"))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 0.7 * peaks[0]


def test_a_damaged_chunk_is_one_error_with_file_and_slot(tmp_path: Path) -> None:
    cells().write_zarr(tmp_path / "cells.zarr")
    (chunk,) = (file for file in (tmp_path / "cells.zarr/mod/rna/X/data").rglob("*") if file.name == "0")
    chunk.write_bytes(b"\xff" * 64)
    mdata = smm.read_lazy(tmp_path / "cells.zarr")
    with pytest.raises(OSError, match=r"mdata\['rna'\]\.X can't be read from .*cells\.zarr/mod/rna/X .*damaged"):
        smm.pp.manifold_fit(mdata)
    assert "manifold" not in mdata["rna"].var


def test_what_is_no_mudata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no file .*none.zarr"):
        smm.read_lazy(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder is a folder and no zarr store"):
        smm.read_lazy(tmp_path / "folder")
    (tmp_path / "text.h5mu").write_text("no data")
    with pytest.raises(ValueError, match=r"text\.h5mu can't be opened as \.h5mu"):
        smm.read_lazy(tmp_path / "text.h5mu")
    cells()["rna"].write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match=r"cells\.h5ad holds no MuData"):
        smm.read_lazy(tmp_path / "cells.h5ad")
