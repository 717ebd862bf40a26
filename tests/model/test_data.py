from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import scmag_muon as smm
from scmag_muon.model import SCMAG, _data
from scmag_muon.model._context import split_cells
from scmag_muon.model._module import counts_key, input_key

if TYPE_CHECKING:
    from mudata import MuData


@pytest.fixture
def fitted(citeseq: MuData) -> MuData:
    smm.pp.manifold_fit(citeseq)
    citeseq["rna"].layers["manifold"] = sp.csr_matrix(citeseq["rna"].layers["manifold"])
    SCMAG.setup_mudata(citeseq)
    return citeseq


def splitter(mdata: MuData) -> _data.ReadyDataSplitter:
    cells = split_cells(mdata.n_obs, 0.8, 0)
    made = _data.ReadyDataSplitter(SCMAG(mdata, 3).adata_manager, external_indexing=cells, batch_size=25)
    made.setup()
    return made


def by_hand(loader: Any) -> dict[str, np.ndarray]:
    batches = list(loader)
    return {key: np.concatenate([batch[key].numpy() for batch in batches]) for key in batches[0]}


def test_same_minibatches_as_from_scvi(fitted: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = splitter(fitted)
    assert ready.ready is not None
    monkeypatch.setattr(_data, "_MOST_BYTES", 100)
    other = splitter(fitted)
    assert other.ready is None
    keys = [input_key(0), input_key(1)]
    for loaders in (
        (ready.val_dataloader(), other.val_dataloader()),
        (ready.all_cells(keys), other.all_cells(keys)),
    ):
        ours, theirs = (by_hand(loader) for loader in loaders)
        assert ours.keys() == theirs.keys() - {"indices"}
        for key, value in ours.items():
            np.testing.assert_array_equal(value, theirs[key])
            assert value.dtype == theirs[key].dtype


def test_training_cells_come_in_a_new_order_each_time(fitted: MuData) -> None:
    ready = splitter(fitted)
    loader = ready.train_dataloader()
    assert len(loader) == len(list(loader)) == 4
    torch.manual_seed(0)
    first, second = (by_hand(loader)[input_key(0)] for _ in range(2))
    expected = fitted["rna"].layers["manifold"].toarray()[ready.train_idx]
    assert (first != second).any()
    for rows in (first, second):
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])
    ready.teardown()
    assert ready.ready is None


def test_training_takes_them_and_lets_go(fitted: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    tensors = _data.ReadyDataSplitter._tensors
    monkeypatch.setattr(
        _data.ReadyDataSplitter, "_tensors", lambda self, **kwargs: made.append(self) or tensors(self, **kwargs)
    )
    model = SCMAG(fitted, 3)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    assert len(made) == 1
    assert made[0].ready is None


def test_a_million_cells_are_not_made_dense(fitted: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    made = splitter(fitted)
    assert made._fits()
    # 2**20 times 2**12 entries of four bytes: a product of 32-bit integers is zero
    large = np.broadcast_to(np.float32(0), (2**20, 2**12))
    monkeypatch.setattr(made.adata_manager, "get_from_registry", lambda _: large)
    assert not made._fits()


@pytest.fixture
def bare(fitted: MuData) -> MuData:
    """The same cells with the stored fit, but without its layers."""
    mdata = fitted.copy()
    del mdata.uns["_scvi_uuid"]
    for adata in mdata.mod.values():
        del adata.layers["manifold"]
    SCMAG.setup_mudata(mdata)
    return mdata


@pytest.mark.parametrize("most", [100, 2**30], ids=["by request", "ready"])
def test_minibatches_without_fitted_layers(
    fitted: MuData, bare: MuData, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = splitter(fitted)
    monkeypatch.setattr(_data, "_MOST_BYTES", most)
    monkeypatch.setattr(_data, "_ROWS_AT_A_TIME", 50)
    found = splitter(bare)
    assert isinstance(found.ready[input_key(0)], torch.Tensor) is (most > 100)
    assert isinstance(found.ready[counts_key(0)], torch.Tensor) is (most > 100)
    keys = [input_key(0), input_key(1)]
    for loader in (
        lambda of: of.train_dataloader(),
        lambda of: of.val_dataloader(),
        lambda of: of.all_cells(keys, 30),
    ):
        torch.manual_seed(3)
        one = by_hand(loader(found))
        torch.manual_seed(3)
        other = by_hand(loader(expected))
        assert one.keys() == other.keys()
        for key, values in other.items():
            np.testing.assert_allclose(one[key], values, atol=3e-4)
            assert one[key].dtype == values.dtype


def test_training_without_fitted_layers(fitted: MuData, bare: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(mdata: MuData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model = SCMAG(mdata, 3)
        model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
        getters = (model.get_latent_representation, model.get_cluster_assignments, model.get_normalized_expression)
        return tuple(np.asarray(get()) for get in getters)

    expected, ready = trained(fitted), trained(bare)
    np.testing.assert_allclose(ready[0], expected[0], atol=0.02)
    np.testing.assert_array_equal(ready[1], expected[1])
    monkeypatch.setattr(_data, "_MOST_BYTES", 100)
    for of_ready, by_request in zip(ready, trained(bare), strict=True):
        np.testing.assert_array_equal(by_request, of_ready)
    assert all("manifold" not in adata.layers for adata in bare.mod.values())


def test_other_loaders_need_the_fitted_layers(bare: MuData) -> None:
    model = SCMAG(bare, 3)
    with pytest.raises(ValueError, match="need the fitted layers, which were not kept"):
        model.train(
            max_epochs_pretrain=2,
            max_epochs=1,
            progress_bar=False,
            accelerator="cpu",
            load_sparse_tensor=True,
        )
