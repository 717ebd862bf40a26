"""Peers of ``scale.py``: cells are read whole, in a process of its own for each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import lightning.pytorch as lightning
import scanpy as sc
from peers import Options, peer_model, rna_pca, wnn
from sklearn.metrics import adjusted_rand_score

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_TIMED_EPOCHS = 2
_BATCH_SIZE = 256


def rna_alone(mdata: MuData) -> dict[str, float]:
    """Components, neighbours and Leiden communities of RNA."""
    started = time.perf_counter()
    rna = sc.AnnData(obs=mdata.obs[[]], obsm={"X_pca": rna_pca(mdata, Options(0))})
    sc.pp.neighbors(rna, use_rep="X_pca", random_state=0)
    sc.tl.leiden(rna, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    ended = time.perf_counter()
    return {"s": ended - started, "ARI": adjusted_rand_score(mdata.obs["cell_type"], rna.obs["leiden"])}


def neighbors_of_both(mdata: MuData) -> dict[str, float]:
    """muon's weighted nearest neighbours, with components and neighbours of each modality."""
    started = time.perf_counter()
    wnn(mdata, Options(0))
    return {"s": time.perf_counter() - started}


def epoch_of_totalvi(mdata: MuData) -> dict[str, float]:
    """The quickest of two epochs, after a first one, of all cells in training."""
    clock = _Clock()
    peer_model(mdata, batch_key=None).train(
        max_epochs=_TIMED_EPOCHS + 1,
        train_size=1.0,
        batch_size=_BATCH_SIZE,
        early_stopping=False,
        enable_progress_bar=False,
        accelerator="cpu",
        limit_val_batches=0,
        callbacks=[clock],
    )
    return {"s": min(clock.seconds[1:]), "epochs": 1}


class _Clock(lightning.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self._started)


PEERS: dict[str, Callable[[MuData], dict[str, float]]] = {
    "scanpy: PCA, neighbours, Leiden of RNA": rna_alone,
    "muon: WNN neighbours": neighbors_of_both,
    "totalVI: one epoch": epoch_of_totalvi,
}
