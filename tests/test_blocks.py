from __future__ import annotations

import gc
import importlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from mudata import MuData

import scmag_muon as smm
from scmag_muon import _made_from, _mudata
from scmag_muon._mudata import _blocks, _fitted
from scmag_muon.manifold import joint, scratch
from scmag_muon.manifold import modality as of_modality
from scmag_muon.manifold.packed import PackedCounts
from scmag_muon.model import _data
from scmag_muon.tl import _graph_clusters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK: dict[str, Any] = {
    "n_clusters": 3,
    "max_epochs_pretrain": 2,
    "max_epochs": 1,
    "progress_bar": False,
    "accelerator": "cpu",
}


def cells() -> MuData:
    mdata = smm.datasets.simulate_citeseq(120, n_vars=60, n_prot=8, n_clusters=3)
    mdata["rna"].var["highly_variable"] = np.arange(60) % 3 > 0
    return mdata


@pytest.fixture
def file(tmp_path: Path) -> Path:
    mdata = cells()
    mdata["prot"].X = mdata["prot"].X.toarray()
    mdata.write_h5mu(tmp_path / "cells.h5mu", compression="gzip")
    return tmp_path / "cells.h5mu"


@pytest.fixture
def backed(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MuData]:
    """Read in blocks of ten cells, or 75; a sparse matrix can't be read whole."""
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 600)
    matrix = anndata._core.sparse_dataset.BaseCompressedSparseDataset
    monkeypatch.setattr(matrix, "to_memory", lambda self: pytest.fail("the matrix is read whole"))
    mdata = mudata.read_h5mu(file, backed="r")
    yield mdata
    mdata.file.close()


def test_rows_of_a_file_in_blocks(backed: MuData) -> None:
    blocks = _blocks.row_blocks(backed["rna"].X)
    assert [(rows.start, rows.stop) for rows in blocks] == [(i, i + 10) for i in range(0, 120, 10)]
    assert [rows.stop for rows in _blocks.row_blocks(backed["prot"].X)] == [75, 120]
    assert _blocks.row_blocks(np.ones((120, 60))) == [slice(0, 120)]


def test_counts_of_a_file_are_those_in_memory(backed: MuData) -> None:
    for name, adata in cells().mod.items():
        found = _mudata.get_counts(backed.mod[name], modality=name)
        assert found.has_canonical_format
        np.testing.assert_array_equal(found.toarray(), adata.X.toarray())


def test_of_a_file_counts_of_other_features_are_not_kept(backed: MuData) -> None:
    chosen = np.arange(60) % 3 > 0
    found = _mudata.get_counts(backed["rna"], modality="rna", features=chosen)
    expected = cells()["rna"].X[:, chosen]
    assert found.shape == (120, 60)
    assert found.nnz == expected.nnz
    np.testing.assert_array_equal(found.toarray()[:, chosen], expected.toarray())


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("mask_var", [None, "mine"])
def test_fit_and_clusters_of_a_file_are_those_in_memory(
    file: Path, backed: MuData, mask_var: str | None, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:  # as of a million cells: counts in scratch files, views by rows, no layers
        monkeypatch.setattr(scratch, "MOST", 100)
        monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 90)
        for module in (of_modality, joint, _graph_clusters):
            monkeypatch.setattr(module, "MANY", 0)
        monkeypatch.setattr(_fitted, "LARGE", 0)
        monkeypatch.setattr(_data, "_MOST_BYTES", 0)
    assert scratch.is_mapped(_mudata.get_counts(backed["rna"], modality="rna").data) == many
    rows_of, asked = PackedCounts.__getitem__, []
    monkeypatch.setattr(PackedCounts, "__getitem__", lambda x, rows: asked.append(x.shape[1]) or rows_of(x, rows))
    before, mdata = file.read_bytes(), cells()
    for each in (mdata, backed):
        if mask_var is not None:
            each["rna"].var[mask_var] = np.arange(60) % 2 == 0
        smm.pp.manifold_fit(each, key_added="fit")
        smm.tl.scmag(each, manifold_key="fit", mask_var=mask_var, **QUICK)
    for key in ("X_fit", "X_scmag"):
        np.testing.assert_array_equal(backed.obsm[key], mdata.obsm[key])
    assert set(asked) == ({40 if mask_var is None else 30, 8} if many else set())  # in training, not rows of the file
    assert (backed.obs["scmag"].to_numpy() == mdata.obs["scmag"].to_numpy()).all()
    assert backed.uns["scmag"]["made_from"] == mdata.uns["scmag"]["made_from"]
    for name in ("rna", "prot"):
        assert backed[name].uns["fit"]["made_from"] == mdata[name].uns["fit"]["made_from"]
    assert not _made_from.differences(backed, backed.uns["scmag"], counts=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("return_model", [False, True])
def test_what_training_reads_is_gone_before_the_tree_grows(
    backed: MuData, return_model: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MOST", 100)
    monkeypatch.setattr(_fitted, "LARGE", 0)
    monkeypatch.setattr(_data, "_MOST_BYTES", 0)
    of_run = importlib.import_module("scmag_muon.tl._scmag")
    made, alive = [], []
    make, grow = PackedCounts.__init__, of_run.grow_levels
    monkeypatch.setattr(PackedCounts, "__init__", lambda x, counts: made.append(weakref.ref(x)) or make(x, counts))

    def watched(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        alive.extend(packed() is not None for packed in made)
        return grow(*arguments, **options)

    monkeypatch.setattr(of_run, "grow_levels", watched)
    smm.tl.scmag(backed, return_model=return_model, **QUICK)
    assert alive == [return_model]


def test_the_model_of_a_large_file_reads_its_scratch_file(backed: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = cells()
    expected = smm.tl.scmag(mdata, return_model=True, **QUICK)
    monkeypatch.setattr(scratch, "MOST", 100)
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 90)
    model = smm.tl.scmag(backed, return_model=True, **QUICK)
    for name in ("rna", "prot"):
        assert scratch.is_mapped(model.adata[name].X.data)
        found, wanted = (of.get_normalized_expression(modality=name).to_numpy() for of in (model, expected))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
    np.testing.assert_array_equal(model.get_latent_representation(), expected.get_latent_representation())
    data = weakref.ref(model.adata)
    del model
    gc.collect()
    gc.collect()  # the model lets go of the data when it goes itself
    assert data() is None  # with the model, its scratch file is gone


def test_what_is_wrong_in_a_later_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mdata = cells()
    counts = mdata["rna"].X.toarray()
    counts[35, 7] = -3
    mdata["rna"].X = sp.csr_matrix(counts)
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 600)
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    with pytest.raises(ValueError, match="negative values .*the first -3 in cell 'cell_35', feature 'gene_7'"):
        smm.pp.manifold_fit(backed)
    assert "manifold" not in backed["rna"].var
    backed.file.close()


def test_decimals_of_all_blocks_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mdata = cells()
    mdata["rna"].X.data += np.random.default_rng(0).uniform(0.15, 0.45, mdata["rna"].X.nnz).astype(np.float32)
    mdata.write_h5mu(tmp_path / "cells.h5mu")
    monkeypatch.setattr(_blocks, "_VALUES_AT_A_TIME", 600)
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    with caplog.at_level(logging.INFO):
        found = _mudata.get_counts(backed["rna"], modality="rna", round_counts=True)
    (line,) = [record.getMessage() for record in caplog.records if "decimals" in record.getMessage()]
    assert line == f"mdata['rna'].X: {mdata['rna'].X.nnz} of {mdata['rna'].X.nnz} counts have decimals and are rounded."
    np.testing.assert_array_equal(found.toarray(), np.rint(mdata["rna"].X.toarray()))
    backed.file.close()


@pytest.mark.parametrize(("slot", "where"), [("mod/rna/X/data", "rna"), ("mod/prot/X", "prot")])
def test_a_damaged_file_is_one_error_with_its_name_and_the_slot(file: Path, slot: str, where: str) -> None:
    with h5py.File(file) as opened:
        start = opened[slot].id.get_chunk_info(0).byte_offset
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(b"\xff" * 64)
    backed = mudata.read_h5mu(file, backed="r")
    before = dict(backed.uns)
    for verb in (smm.pp.manifold_fit, smm.tl.scmag):
        with pytest.raises(OSError, match=rf"mdata\['{where}'\]\.X can't be read from .*cells\.h5mu .*damaged"):
            verb(backed)
    assert dict(backed.uns) == before
    backed.file.close()


def test_a_file_that_is_cut_short_while_it_is_open(tmp_path: Path) -> None:
    cells().write_h5mu(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    matrix = backed["rna"].X
    with h5py.File(tmp_path / "cells.h5mu") as opened:
        start = opened["mod/rna/X/indices"].id.get_chunk_info(0).byte_offset
    with (tmp_path / "cells.h5mu").open("r+b") as opened:
        opened.truncate(start + 8)
    with pytest.raises(OSError, match=r"rna can't be read from .*cells\.h5mu .*cut short"):
        _blocks.read_rows(matrix, slice(0, 120), where="rna")
    backed.file.close()


def test_a_file_that_is_cut_short_during_the_training_loses_no_results(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cells()
    smm.tl.scmag(whole, **QUICK)
    backed = mudata.read_h5mu(file, backed="r")
    train = smm.model.SCMAG.train

    def cut_short(self: Any, **arguments: Any) -> None:
        with file.open("r+b") as opened:
            opened.truncate(2000)
        train(self, **arguments)

    monkeypatch.setattr(smm.model.SCMAG, "train", cut_short)
    smm.tl.scmag(backed, **QUICK)
    np.testing.assert_array_equal(backed.obs["scmag"], whole.obs["scmag"])
    assert backed.uns["scmag"]["made_from"]["counts"] == whole.uns["scmag"]["made_from"]["counts"]
    backed.file.close()
