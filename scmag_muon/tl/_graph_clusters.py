"""Clusters of a neighbour graph, and their number: where the network's centres start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._assays import ASSAYS
from scmag_muon._checks import shifted_seed
from scmag_muon._mudata import modality_kind, recorded_kind
from scmag_muon.manifold.modality import MANY, sized_view
from scmag_muon.manifold.neighbors import jaccard_graph, nearest_in, nearest_neighbors
from scmag_muon.manifold.profiles import group_profiles
from scmag_muon.manifold.transforms import median_total
from scmag_muon.metrics._stability import most_typical
from scmag_muon.tl._leiden import Leiden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    import scipy.sparse as sp
    from mudata import MuData

_N_NEIGHBORS = 30
_FEWEST_NEIGHBORS = 10
_CELLS_PER_NEIGHBOR = 30
RESOLUTIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_N_PARTITIONS = 6
_N_SEEDS = 2
_BETWEEN_SEEDS = 1000  # so that the seeds 0, 1, 2 … have none in common
_DOUBLINGS = 8
_CELLS_PER_COMMUNITY = 10
_ALL_UP_TO = 100_000
_SAMPLE = 50_000
_VOTES = 5


def fine_communities(
    embedding: np.ndarray, n_clusters: int, *, n_neighbors: int = _N_NEIGHBORS, random_state: int | None = 0
) -> np.ndarray:
    """Communities of the fitted neighbour graph at several resolutions, more than the clusters they are to be joined to.

    Leiden at a resolution that gives ``n_clusters`` at once cuts a large type in two before it recognises a small one. From
    many small communities the network joins those that lie near to each other in its own space, whatever their size. How
    small is best differs from one set to another, so it is given several divisions to choose from.

    Of more than 100,000 cells a random 50,000 are divided; each other cell goes where most of the five nearest of these are.

    Parameters
    ----------
    embedding
        Fitted joint space, shape ``(n_obs, n_components)``.
    n_clusters
        K.
    n_neighbors
        Neighbours of each cell in the graph.
    random_state
        Seed of Leiden.

    Returns
    -------
    Integers from 0, largest community first, shape ``(n_obs, n_partitions)``: for each of two seeds of Leiden a column for each
    of the resolutions 1, 2, 4, 8, 16 and 32 at which there are at least K communities of ten cells on average. Where there are
    none, the first resolution at which there are K of any size.
    """
    seeds = [shifted_seed(random_state or 0, i * _BETWEEN_SEEDS) for i in range(_N_SEEDS)]

    def divide(x: np.ndarray) -> list[np.ndarray]:
        leiden = _leiden(x, n_neighbors)
        return [parts for seed in seeds for parts in _fine_communities(leiden, n_clusters, seed)]

    return np.column_stack(_divisions(embedding, divide, random_state))


def _fine_communities(leiden: Leiden, n_clusters: int, random_state: int) -> list[np.ndarray]:
    n_obs = leiden.graph.vcount()
    found: list[np.ndarray] = []
    n_communities = 0
    for doublings in range(_DOUBLINGS):
        parts = leiden(2**doublings, random_state)
        n_communities = int(parts.max()) + 1
        too_small = n_communities * _CELLS_PER_COMMUNITY > n_obs
        if n_communities >= n_clusters and not (found and too_small):
            found.append(order_by_size(parts))
        if found and (too_small or doublings + 1 >= _N_PARTITIONS):
            break
    if not found:
        raise ValueError(
            f"The cells fall into {n_communities} communities at most, fewer than n_clusters={n_clusters}. Ask for fewer clusters."
        )
    return found


def leaf_communities(embedding: np.ndarray, n_leaves: int, *, random_state: int | None = 0) -> np.ndarray:
    """Communities of a joint space at the first of the resolutions 1, 2, 4 … that gives ``n_leaves`` or more.

    Where so many would hold fewer than ten cells on average, those at the resolution before.

    Returns
    -------
    Integers from 0, largest community first, shape ``(n_obs,)``.
    """

    def divide(x: np.ndarray) -> list[np.ndarray]:
        leiden = _leiden(x, n_neighbors_for(len(x)))
        found = leiden(1, random_state)
        for doublings in range(1, _DOUBLINGS):
            if found.max() + 1 >= n_leaves:
                break
            finer = leiden(2**doublings, random_state)
            if (finer.max() + 1) * _CELLS_PER_COMMUNITY > len(x):
                break
            found = finer
        return [order_by_size(found)]

    return _divisions(embedding, divide, random_state)[0]


def community_profiles(
    mdata: MuData,
    divisions: np.ndarray,
    *,
    counts: Mapping[str, sp.csr_array],
    manifold_key: str,
    batches: pd.Categorical | None,
) -> tuple[list[np.ndarray], float]:
    """Mean expression of the communities of each division, for :meth:`scmag_muon.model.SCMAG.train`, and how much it counts.

    Of k modalities each fills one part in k of Z1. If one of them has all the weight in the joint space, only that part of Z1
    is worth anything, and expression counts k times; if all weigh alike, it counts once.

    Parameters
    ----------
    mdata
        Fitted modalities, with what :func:`~scmag_muon.pp.manifold_fit` wrote under ``manifold_key``: they weigh as they do in
        the joint space.
    divisions
        Integers from 0, shape ``(n_obs, n_partitions)``.
    counts
        Of each modality, counts of its fitted features in all cells, ``(n_obs, n_vars)``.
    manifold_key
        Name of the fit.
    batches
        Batch of each cell.
    """
    views, weights = [], []
    many = max(x.nnz for x in counts.values()) > MANY
    for name, adata in mdata.mod.items():
        assay = ASSAYS[recorded_kind(adata, manifold_key) or modality_kind(name, adata)]
        median = median_total(counts[name]) if assay.scales else 0.0
        views.append(sized_view(counts[name], assay.profile, median, by_rows=many))
        weights.append(float(adata.uns[manifold_key]["modality_weight"]))
    codes = None if batches is None else batches.codes
    squared = np.square(weights) / np.square(weights).sum()
    return group_profiles(views, weights, divisions, codes), len(weights) * float(squared.max())


def communities(
    embedding: np.ndarray, *, resolutions: Sequence[float] = RESOLUTIONS, random_state: int | None = 0
) -> list[np.ndarray]:
    """Leiden communities of a space at several resolutions.

    The graph has 30 neighbours, and below 900 cells a thirtieth of their number, at least 10: of 200 cells, 30 are more than most
    types have. More than 100,000 cells are divided as in :func:`fine_communities`.

    Returns
    -------
    For each resolution, integers from 0, largest community first, shape ``(n_obs,)``.
    """

    def divide(x: np.ndarray) -> list[np.ndarray]:
        leiden = _leiden(x, n_neighbors_for(len(x)))
        return [order_by_size(leiden(resolution, random_state)) for resolution in resolutions]

    return _divisions(embedding, divide, random_state)


def _divisions(
    embedding: np.ndarray, divide: Callable[[np.ndarray], list[np.ndarray]], random_state: int | None
) -> list[np.ndarray]:
    """Divisions of all cells, or of a sample of many, to which the others are added by the vote of their nearest."""
    n_obs = len(embedding)
    if n_obs <= _ALL_UP_TO:
        return divide(embedding)
    sample = np.sort(np.random.default_rng(random_state or 0).choice(n_obs, _SAMPLE, replace=False))
    others = np.setdiff1d(np.arange(n_obs), sample, assume_unique=True)
    nearest = nearest_in(embedding[others], embedding[sample], _VOTES)
    found = []
    for of_sample in divide(embedding[sample]):
        labels = np.empty(n_obs, dtype=of_sample.dtype)
        labels[sample], labels[others] = of_sample, _vote(of_sample[nearest])
        found.append(order_by_size(labels))
    return found


def _vote(labels: np.ndarray) -> np.ndarray:
    """The label that most of a row have, of those that as many have the first, shape ``(n_rows,)``."""
    votes = np.stack([(labels == column[:, None]).sum(axis=1, dtype=np.int8) for column in labels.T], axis=1)
    return labels[np.arange(len(labels)), votes.argmax(axis=1)]


def typical_communities(embedding: np.ndarray, *, random_state: int | None = 0) -> np.ndarray:
    """Clusters where their number is not given: communities of the *unfitted* joint space at a resolution that is found.

    Of the communities at the resolutions 0.5, 0.6 … 1 those are taken which agree best with the others. The fitted graph falls
    into tens of communities and can't tell the number.

    Returns
    -------
    Integers from 0, largest community first, shape ``(n_obs,)``.
    """
    found = communities(embedding, random_state=random_state)
    return found[most_typical(found)]


def order_by_size(labels: np.ndarray) -> np.ndarray:
    """The same clusters numbered from 0, largest first."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank[codes]


def n_neighbors_for(n_obs: int) -> int:
    """Neighbours in a graph of so many cells: 30, and below 900 cells a thirtieth of their number, at least 10."""
    return int(np.clip(n_obs // _CELLS_PER_NEIGHBOR, _FEWEST_NEIGHBORS, _N_NEIGHBORS))


def _leiden(embedding: np.ndarray, n_neighbors: int) -> Leiden:
    return Leiden(jaccard_graph(nearest_neighbors(embedding, n_neighbors)))
