"""Neighbourhoods that the modalities share, each with the weight its information earns, or that each finds for itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmag_muon._assays import ASSAYS
from scmag_muon.manifold.components import principal_components
from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.information import concordance, half_neighborhoods, modality_weights, replication
from scmag_muon.manifold.neighbors import (
    candidates_for_all_kernels,
    nearest_neighbors,
    shared_neighbors,
)
from scmag_muon.manifold.threads import in_threads
from scmag_muon.manifold.transforms import Transform, View, scale_features, scale_to_median, transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from scmag_muon._assays import ModalityKind
    from scmag_muon.manifold.kernels import Kernel

VIEWS: dict[str, tuple[Transform, Kernel]] = {
    "log_rbf": ("log", "rbf"),
    "log_poly": ("log", "poly"),
    "zscore_poly": ("zscore", "poly"),
    "clr_rbf": ("clr", "rbf"),
}
"""The four pairs of transform and kernel of section 2.2.1."""


@dataclass
class Modality:
    """What fitting needs of one modality: chosen counts, transformed views and components of its main view."""

    name: str
    kind: ModalityKind
    mask: np.ndarray
    counts: sp.csr_array
    views: dict[Transform, View]
    replication: float = 0.0
    weight: float = 0.0

    @property
    def main(self) -> Transform:
        """Transform in which neighbours across modalities are found."""
        return ASSAYS[self.kind].main


def make_modality(name: str, kind: ModalityKind, counts: sp.csr_array, mask: np.ndarray) -> Modality:
    """Transform the chosen counts; RNA and ATAC are first scaled to the median library size."""
    chosen = sp.csr_array(counts[:, mask])
    views = transforms(scale_to_median(chosen) if ASSAYS[kind].scales else chosen)
    if ASSAYS[kind].main == "scaled":
        views["scaled"] = scale_features(views["log"])
    return Modality(name, kind, mask, chosen, views)


def joint_embedding(
    modalities: list[Modality], *, n_pcs: int, batches: pd.Categorical | None, random_state: int | None
) -> tuple[np.ndarray, float]:
    """Principal components of both modalities side by side, each block of unit variance times its weight.

    The weight is the square root of the modality's share in all replication, less where the second modality is not
    concordant with the first (:func:`modality_weights`). With batches, the components are centred within each batch. Returns
    the embedding, ``(n_obs, n_components)``, and the concordance; replication and weight are noted in each modality.
    """
    seed = int(np.random.default_rng().integers(2**31)) if random_state is None else random_state

    def halves(modality: Modality) -> list[np.ndarray]:
        return half_neighborhoods(modality.counts, modality.main, scale=ASSAYS[modality.kind].scales, random_state=seed)

    def components(modality: Modality) -> np.ndarray:
        view = modality.views[modality.main]
        return _center_batches(principal_components(view, n_pcs, random_state=random_state), batches)

    # each has stretches that keep a single core busy: side by side they fill one another's gaps
    work: list[Callable[[], Any]] = [
        partial(part, modality) for part in (components, halves) for modality in modalities
    ]
    *scores, first, second = in_threads(lambda part: part(), work)
    agreement = concordance(first, second)
    replications = [replication(tables) for tables in (first, second)]
    weights = modality_weights(np.array(replications), agreement)
    blocks = []
    for modality, of_modality, replicated, weight in zip(modalities, scores, replications, weights, strict=True):
        modality.replication, modality.weight = replicated, float(weight)
        blocks.append(modality.weight * of_modality / max(np.sqrt(of_modality.var(axis=0).sum()), 1e-12))
    return np.hstack(blocks).astype(np.float32), agreement


def _center_batches(scores: np.ndarray, batches: pd.Categorical | None) -> np.ndarray:
    if batches is None:
        return scores
    centered = scores.copy()
    for code in range(len(batches.categories)):
        rows = batches.codes == code
        centered[rows] -= centered[rows].mean(axis=0)
    return centered


def shared_operators(joint: np.ndarray, *, n_neighbors: int, step: float) -> dict[str, sp.csr_array]:
    """One operator for each view, from the joint space under the view's kernel: the same for every modality."""
    candidates = candidates_for_all_kernels(joint, n_neighbors)
    of_kernel = {kernel: _operator(joint, kernel, n_neighbors, step, candidates) for kernel in ("rbf", "poly")}
    return {view: of_kernel[kernel] for view, (_, kernel) in VIEWS.items()}


def own_operators(
    modality: Modality,
    *,
    n_neighbors: int,
    n_pcs: int,
    step: float,
    batches: pd.Categorical | None,
    random_state: int | None,
) -> dict[str, sp.csr_array]:
    """One operator for each view of a modality, from its own components under its own kernel, as in the paper."""
    scores = {
        kind: _center_batches(principal_components(modality.views[kind], n_pcs, random_state=random_state), batches)
        for kind in {kind for kind, _ in VIEWS.values()}
    }
    return {view: _operator(scores[kind], kernel, n_neighbors, step) for view, (kind, kernel) in VIEWS.items()}


def _operator(
    x: np.ndarray, kernel: Kernel, n_neighbors: int, step: float, candidates: np.ndarray | None = None
) -> sp.csr_array:
    neighbors = nearest_neighbors(x, n_neighbors, kernel=kernel, candidates=candidates)
    return fitting_operator(shared_neighbors(neighbors, x, kernel=kernel), step=step)
