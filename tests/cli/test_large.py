"""Files of more values than are read whole."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._cli import _read, main
from scmag_muon._mudata import _blocks

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

QUICK = ["--n-clusters", "3", "--max-epochs-pretrain", "2", "--max-epochs", "1", "--layers", "none"]
SUFFIXES = [".h5mu", ".zarr"]


def cells(*, mosaic: bool = False) -> MuData:
    mdata = smm.datasets.simulate_citeseq(120, n_vars=60, n_prot=8, n_clusters=3)
    rna, prot = mdata["rna"].copy(), mdata["prot"].copy()
    rna.raw = rna.copy()
    rna.layers["raw"] = rna.X.copy()
    rna.layers["by_columns"] = sp.csc_matrix(rna.X)
    rna.X = rna.X / 7
    prot.X = prot.X.toarray()
    return _mudata.make_mudata({"rna": rna, "prot": prot[30:].copy() if mosaic else prot}, mdata.obs)


def written(mdata: MuData, path: Path) -> Path:
    with _mudata.no_pull_on_update():
        getattr(mdata, f"write_{path.suffix.lstrip('.')}")(path)
    return path


@pytest.fixture
def never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of ten cells, or 75; a CSR matrix can't be read whole."""
    monkeypatch.setattr(_read, "MANY", 0)
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 600)
    matrix = anndata._core.sparse_dataset._CSRDataset
    monkeypatch.setattr(matrix, "to_memory", lambda self: pytest.fail("the matrix is read whole"))


def values_of(matrix: Any) -> np.ndarray:
    parts = [matrix[:50], matrix[50:]]
    return np.vstack([part.toarray() if sp.issparse(part) else part for part in parts])


def assert_same(found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(values_of(found), values_of(expected))


@pytest.mark.usefixtures("never_whole")
@pytest.mark.parametrize("output", SUFFIXES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_matrices_are_copied_from_file_to_file(
    suffix: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, mdata = cells(), smm.read_lazy(written(cells(), tmp_path / f"in{suffix}"))
    mdata.obs["cluster"] = "a"
    _mudata.check_writable(mdata, tmp_path / f"out{output}")
    _mudata.write_mudata(mdata, tmp_path / f"out{output}")
    for back in (smm.read_lazy(tmp_path / f"out{output}"), mdata):  # nor has the MuData lost any
        assert list(back.obs.columns) == [*expected.obs.columns, "cluster"]
        for name, adata in expected.mod.items():
            assert set(back[name].layers) == set(adata.layers)
            assert_same(back[name].X, adata.X)
            for layer in adata.layers:
                assert_same(back[name].layers[layer], adata.layers[layer])
        assert_same(back["rna"].raw.X, expected["rna"].raw.X)
        assert back["rna"].raw.var_names.equals(expected["rna"].raw.var_names)
        assert _blocks.in_file(back["rna"].X)
    monkeypatch.undo()
    if output == ".h5mu":
        whole = mudata.read_h5mu(tmp_path / "out.h5mu")
        assert_same(whole["rna"].X, expected["rna"].X)
        assert whole["rna"].X.format == "csr"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mosaic", [False, True])
def test_a_run_is_that_of_the_whole_file(
    suffix: str,
    mosaic: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(cells(mosaic=mosaic), tmp_path / f"in{suffix}")
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    before = [each.read_bytes() for each in files]
    options = [*QUICK, "--layer", "rna=raw", "--force"]
    assert main(["run", str(path), "-o", str(tmp_path / "whole.h5mu"), *options]) == 0
    assert "They stay there" not in capsys.readouterr().err
    request.getfixturevalue("never_whole")
    further = ["--report", str(tmp_path / "page.html"), "--csv", str(tmp_path / "tables")]
    assert main(["run", str(path), "-o", str(tmp_path / "lazy.h5mu"), *options, *further]) == 0
    assert f"{path} holds" in (said := capsys.readouterr().err)
    assert "They stay there and are read by blocks of cells" in said
    monkeypatch.undo()
    whole, lazy = (mudata.read_h5mu(tmp_path / f"{name}.h5mu") for name in ("whole", "lazy"))
    assert whole.obs.equals(lazy.obs)
    np.testing.assert_array_equal(whole.obsm["X_scmag"], lazy.obsm["X_scmag"])
    assert whole.uns["scmag"]["made_from"]["counts"] == lazy.uns["scmag"]["made_from"]["counts"]
    for name in ("rna", "prot"):
        assert_same(lazy[name].X, whole[name].X)
        assert set(lazy[name].layers) == set(whole[name].layers)
    assert_same(lazy["rna"].raw.X, whole["rna"].raw.X)
    assert [each.read_bytes() for each in files] == before
    assert (tmp_path / "page.html").exists()
    assert (tmp_path / "tables" / "markers.csv").exists()


def test_what_a_file_holds_is_counted(tmp_path: Path) -> None:
    mdata = cells()
    n_stored = mdata["rna"].X.nnz
    for suffix in SUFFIXES:
        path = written(mdata, tmp_path / f"in{suffix}")
        assert _mudata.stored_values(path) == 4 * n_stored + 120 * 8  # X, two layers, raw; proteins are dense


def test_raw_of_a_store_is_kept(tmp_path: Path) -> None:
    """mudata leaves it out."""
    path = written(cells(), tmp_path / "in.zarr")
    assert_same(_read.read(path)["rna"].raw.X, cells()["rna"].raw.X)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.usefixtures("never_whole")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_full_while_matrices_are_copied_leaves_the_old_file(
    suffix: str, tmp_path: Path, full_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdata = smm.read_lazy(written(cells(), tmp_path / "in.h5mu"))
    path = tmp_path / f"out{suffix}"
    _mudata.write_mudata(mdata, path)
    before = sorted((str(each), each.stat().st_size) for each in tmp_path.rglob("*"))
    copy, filled = _mudata._store.copy_blocks, contextlib.ExitStack()
    monkeypatch.setattr(
        _mudata._store, "copy_blocks", lambda *of, **how: filled.enter_context(full_disk(100)) or copy(*of, **how)
    )
    unchanged = r"could not be written: File too large\. What was there before is unchanged"
    with filled, pytest.raises(OSError, match=unchanged):
        _mudata.write_mudata(mdata, path)
    assert sorted((str(each), each.stat().st_size) for each in tmp_path.rglob("*")) == before
    assert _blocks.in_file(mdata["rna"].X)
