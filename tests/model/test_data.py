from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import scmag_muon as smm
from scmag_muon.model import SCMAG, _data
from scmag_muon.model._context import split_cells
from scmag_muon.model._module import input_key

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
    monkeypatch.setattr(_data.ReadyDataSplitter, "_tensors", lambda self: made.append(self) or tensors(self))
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
