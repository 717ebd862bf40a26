"""How much a modality knows about the cells: do its neighbourhoods replicate between two halves of its counts?"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.neighbors import indicator, nearest_neighbors, principal_components
from scmag_muon.manifold.threads import in_threads
from scmag_muon.manifold.transforms import Transform, scale_to_median, transform

_MOST_CELLS = 12_000


def split_counts(counts: sp.csr_array, *, random_state: int | None = 0) -> tuple[sp.csr_array, sp.csr_array]:
    """Each count divided at random (binomial, 1/2) between two matrices that sum to ``counts``."""
    rng = np.random.default_rng(random_state)
    whole = counts.data.astype(np.int64)
    half = rng.binomial(whole, 0.5)
    halves = []
    for part in (half, whole - half):
        matrix = sp.csr_array((part.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape, copy=True)
        matrix.eliminate_zeros()  # most counts are 1 and go to one half as a whole
        halves.append(matrix)
    return halves[0], halves[1]


def neighborhood_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Share of neighbours that two neighbour tables have in common beyond chance: 0 is chance, 1 is identity.

    The cell itself, first in each row, does not count.
    """
    n_obs, k = first.shape[0], first.shape[1] - 1
    both = indicator(first[:, 1:]).multiply(indicator(second[:, 1:])).sum(dtype=np.float64) / (n_obs * k)
    chance = k / (n_obs - 1)
    if chance >= 1:
        return 0.0
    return float((both - chance) / (1 - chance))


def replication(
    counts: sp.csr_array,
    kind: Transform,
    *,
    scale: bool,
    n_neighbors: int = 30,
    n_pcs: int = 30,
    random_state: int | None = 0,
) -> float:
    """Overlap beyond chance of the neighbourhoods found in two random halves of a modality's counts, between 0 and 1.

    Parameters
    ----------
    counts
        Raw counts, shape ``(n_obs, n_vars)``.
    kind, scale
        Transform of the counts, and whether each half is scaled to its median library size first.
    n_neighbors, n_pcs
        Size of the neighbourhoods, and components in which they are found.

    Notes
    -----
    Counts in the two halves are independent given the cell (Poisson thinning), so what both find is the cell's, not the
    noise's. A modality whose neighbourhoods do not replicate can't say which cells belong together.

    The more cells, the nearer the neighbours, and the less of them replicates: so that sets of all sizes are measured on one
    scale, and in no more time, a random sample of 12,000 cells stands for more.
    """
    if counts.shape[0] > _MOST_CELLS:
        sample = np.random.default_rng(random_state).choice(counts.shape[0], _MOST_CELLS, replace=False)
        counts = counts[np.sort(sample)]
    n_obs = counts.shape[0]
    n_neighbors = min(n_neighbors, (n_obs - 1) // 2)
    if n_neighbors < 1:
        return 0.0
    halves = split_counts(counts, random_state=random_state)
    if not all(half.data.any() for half in halves):
        return 0.0
    rng = np.random.default_rng(random_state)
    # cells that are alike in one half tie for the places: in an order of its own, so that ties do not replicate
    orders = [rng.permutation(n_obs) for _ in halves]

    def neighbors(which: int) -> np.ndarray:
        half, order = halves[which], orders[which]
        half_counts = scale_to_median(half) if scale else half
        scores = principal_components(transform(half_counts, kind), n_pcs, random_state=random_state)
        table = nearest_neighbors(scores[order], n_neighbors + 1, random_state=random_state)
        return order[table][np.argsort(order)]

    tables = in_threads(neighbors, range(2))
    return max(neighborhood_overlap(*tables), 0.0)


def modality_weights(replications: np.ndarray) -> np.ndarray:
    r"""Weights of the modalities in a joint space, :math:`w_m = \sqrt{r_m / \sum r}`; equal where nothing replicates."""
    r = np.maximum(np.asarray(replications, dtype=np.float64), 0)
    if r.sum() <= 0:
        return np.full(len(r), np.sqrt(1 / len(r)))
    return np.sqrt(r / r.sum())
