"""Clusters of a neighbour graph, and their number: where the network's centres start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.cluster.hierarchy import fcluster, linkage

from scmag_muon.manifold.neighbors import jaccard_graph, nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

_N_NEIGHBORS = 30
RESOLUTION = 1.0
_DOUBLINGS = 8


def graph_clusters(embedding: np.ndarray, n_clusters: int, *, random_state: int | None = 0) -> np.ndarray:
    """Exactly ``n_clusters`` clusters of the cells: communities of the neighbour graph, joined by average linkage.

    Leiden finds many small communities; these are joined by the distance of their means, whatever their size. So a large
    type is not cut in two before a small one is recognised, which is what a lower resolution does.

    Parameters
    ----------
    embedding
        Fitted joint space, shape ``(n_obs, n_components)``.
    n_clusters
        K.
    random_state
        Seed of Leiden.

    Returns
    -------
    Integers from 0, largest cluster first, shape ``(n_obs,)``.
    """
    graph = _graph(embedding)
    resolution = RESOLUTION
    parts = _leiden(graph, resolution, random_state)
    for _ in range(_DOUBLINGS):
        if parts.max() + 1 >= n_clusters:
            break
        resolution *= 2
        parts = _leiden(graph, resolution, random_state)
    n_parts = parts.max() + 1
    if n_parts < n_clusters:
        raise ValueError(
            f"The cells fall into {n_parts} communities at most, fewer than n_clusters={n_clusters}. Ask for fewer clusters."
        )
    if n_parts == 1:
        return np.zeros(len(embedding), dtype=np.int64)
    means = np.stack([embedding[parts == i].mean(axis=0) for i in range(n_parts)])
    joined = fcluster(linkage(means, method="average"), n_clusters, criterion="maxclust")[parts]
    return order_by_size(joined)


def communities(
    embedding: np.ndarray, *, resolutions: Sequence[float] = (RESOLUTION,), random_state: int | None = 0
) -> list[np.ndarray]:
    """Leiden communities of the *unfitted* joint space: clusters where their number is not given.

    The fitted graph falls into tens of communities and can't tell the number.

    Returns
    -------
    For each resolution, integers from 0, largest community first, shape ``(n_obs,)``.
    """
    graph = _graph(embedding)
    return [order_by_size(_leiden(graph, resolution, random_state)) for resolution in resolutions]


def order_by_size(labels: np.ndarray) -> np.ndarray:
    """The same clusters numbered from 0, largest first."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return rank[codes]


def _graph(embedding: np.ndarray) -> sp.csr_array:
    return jaccard_graph(nearest_neighbors(embedding, _N_NEIGHBORS))


def _leiden(graph: sp.csr_array, resolution: float, random_state: int | None) -> np.ndarray:
    scratch = AnnData(obs={"cell": np.arange(graph.shape[0]).astype(str)})
    sc.tl.leiden(
        scratch,
        adjacency=sp.csr_matrix(graph),
        resolution=resolution,
        flavor="igraph",
        n_iterations=2,
        directed=False,
        random_state=random_state or 0,
    )
    return scratch.obs["leiden"].astype(int).to_numpy()
