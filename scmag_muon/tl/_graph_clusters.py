"""Clusters of a neighbour graph, and their number: where the network's centres start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon.manifold.neighbors import jaccard_graph, nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

_N_NEIGHBORS = 30
RESOLUTION = 1.0
_DOUBLINGS = 8


def fine_communities(embedding: np.ndarray, n_clusters: int, *, random_state: int | None = 0) -> np.ndarray:
    """Communities of the fitted neighbour graph, several times as many as the clusters they are to be joined to.

    Leiden at a resolution that gives ``n_clusters`` at once cuts a large type in two before it recognises a small one. From
    many small communities the network joins those that lie near to each other in its own space, whatever their size.

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
    Integers from 0, largest community first, shape ``(n_obs,)``: at least 2 K, or as many as the graph falls into.
    """
    graph = _graph(embedding)
    parts = np.zeros(len(embedding), dtype=np.int64)
    for doublings in range(_DOUBLINGS):
        parts = _leiden(graph, RESOLUTION * 2**doublings, random_state)
        if parts.max() + 1 >= 2 * n_clusters:
            break
    if parts.max() + 1 < n_clusters:
        raise ValueError(
            f"The cells fall into {parts.max() + 1} communities at most, fewer than n_clusters={n_clusters}. Ask for fewer clusters."
        )
    return order_by_size(parts)


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
