"""How much a modality knows about the cells: do its neighbourhoods replicate, and has any other modality some of them?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.components import principal_components
from scmag_muon.manifold.neighbors import indicator, nearest_neighbors
from scmag_muon.manifold.threads import in_threads
from scmag_muon.manifold.transforms import Transform, scale_to_median, transform

if TYPE_CHECKING:
    from collections.abc import Sequence

CONCORDANT = 0.05
"""Concordance from which on a modality has its full weight."""

_SPEAKS = 0.02
_N_NEIGHBORS = 30
_MOST_CELLS = 3_000


def split_counts(
    counts: sp.csr_array, *, share: float = 0.5, random_state: int | np.random.Generator | None = 0
) -> tuple[sp.csr_array, sp.csr_array]:
    """Each count divided at random (binomial, ``share`` to the first) between two matrices that sum to ``counts``."""
    rng = np.random.default_rng(random_state)
    whole = counts.data.astype(np.int64)
    half = rng.binomial(whole, share)
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
    return float((both - chance) / (1 - chance)) if chance < 1 else 0.0


@dataclass(frozen=True)
class Halves:
    """What two random halves of a modality's counts say of the cells (:func:`split_halves`).

    Parameters
    ----------
    scores
        Components of each half, ``(n_obs, n_components)``; none where there are too few cells or counts.
    tables
        Neighbours in each half, ``(n_obs, n_neighbors + 1)``, the cell itself first.
    """

    scores: list[np.ndarray] = field(default_factory=list)
    tables: list[np.ndarray] = field(default_factory=list)


def split_halves(
    counts: sp.csr_array,
    kind: Transform,
    *,
    scale: bool,
    n_neighbors: int = _N_NEIGHBORS,
    n_pcs: int = 30,
    random_state: int | None = 0,
) -> Halves:
    """Components and neighbours of the cells in two random halves of a modality's counts.

    Parameters
    ----------
    counts
        Raw counts, shape ``(n_obs, n_vars)``.
    kind, scale
        Transform of the counts, and whether each half is scaled to its median library size first.
    n_neighbors, n_pcs
        Size of the neighbourhoods, and components in which they are found.

    Returns
    -------
    Scores and neighbour tables; none where there are too few cells or counts.

    Notes
    -----
    Counts in the two halves are independent given the cell (Poisson thinning), so what both find is the cell's, not the
    noise's. A modality whose neighbourhoods do not replicate can't say which cells belong together.

    The more cells, the nearer the neighbours, and the less of them replicates: so that sets of all sizes are measured on one
    scale, and in no more time, a random sample of 3,000 cells, the same for each modality, stands for more.
    """
    if counts.shape[0] > _MOST_CELLS:
        sample = np.random.default_rng(random_state).choice(counts.shape[0], _MOST_CELLS, replace=False)
        counts = counts[np.sort(sample)]
    n_obs = counts.shape[0]
    n_neighbors = min(n_neighbors, (n_obs - 1) // 2)
    if n_neighbors < 1:
        return Halves()
    halves = split_counts(counts, random_state=random_state)
    if not all(half.data.any() for half in halves):
        return Halves()

    def components(half: sp.csr_array) -> np.ndarray:
        half_counts = scale_to_median(half) if scale else half
        return principal_components(transform(half_counts, kind), n_pcs, random_state=random_state)

    scores = in_threads(components, halves)
    return Halves(scores, _tables(scores, n_neighbors, random_state))


def _tables(scores: Sequence[np.ndarray], n_neighbors: int, random_state: int | None) -> list[np.ndarray]:
    rng = np.random.default_rng(random_state)
    # cells that are alike in one half tie for the places: in an order of its own, so that ties do not replicate
    orders = [rng.permutation(len(scores[0])) for _ in scores]

    def neighbors(which: int) -> np.ndarray:
        order = orders[which]
        table = nearest_neighbors(scores[which][order], n_neighbors + 1, random_state=random_state)
        return order[table][np.argsort(order)]

    return in_threads(neighbors, range(len(scores)))


def half_neighborhoods(
    counts: sp.csr_array, kind: Transform, *, scale: bool, random_state: int | None = 0
) -> list[np.ndarray]:
    """Neighbour tables of the two halves alone (:func:`split_halves`)."""
    return split_halves(counts, kind, scale=scale, random_state=random_state).tables


def replication(halves: Sequence[np.ndarray]) -> float:
    """Overlap beyond chance of the neighbourhoods of two halves (:func:`half_neighborhoods`), between 0 and 1."""
    return max(neighborhood_overlap(*halves), 0.0) if halves else 0.0


def concordance(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    r"""Whether two modalities speak of the same cells: overlap of their neighbourhoods over what replicates of them.

    With :math:`o_{12}` the overlap beyond chance between a half of one modality and a half of the other, and
    :math:`r_1, r_2` their replications, :math:`o_{12} / \sqrt{r_1 r_2}`: a correlation corrected for attenuation, about 0
    where cells are not paired however well each modality replicates, and not lower for being measured on few counts.

    Parameters
    ----------
    first, second
        Neighbour tables of the halves of each modality (:func:`half_neighborhoods`).

    Returns
    -------
    0 to 1; not a number where one of the two does not replicate at all.
    """
    replicated = replication(first) * replication(second)
    if replicated <= 0:
        return float("nan")
    # halves of the same number have tied cells in the same order
    across = (neighborhood_overlap(first[0], second[1]) + neighborhood_overlap(first[1], second[0])) / 2
    return min(max(across, 0.0) / np.sqrt(replicated), 1.0)


def concordances(halves: Sequence[Halves], *, random_state: int | None = 0) -> np.ndarray:
    """Concordance of each modality with the others, not a number where it has none, shape ``(n_modalities,)``.

    The best of: with all others together, in components side by side that weigh by the square root of their replication; and
    with each single one that replicates. So a modality of other cells among the others does not hide that two agree.

    Parameters
    ----------
    halves, random_state
        Of each modality, on the same cells, and the seed that :func:`split_halves` had.
    """
    shares = [replication(of.tables) for of in halves]
    found = np.full(len(halves), np.nan)
    for i, own in enumerate(halves):
        others = [j for j in range(len(halves)) if j != i]
        speak = [j for j in others if shares[j] >= _SPEAKS]
        candidates = [concordance(own.tables, halves[j].tables) for j in (speak or others)]
        if len(speak) > 1:
            together = _together([halves[j] for j in speak], [shares[j] for j in speak], random_state)
            candidates.append(concordance(own.tables, together))
        known = [value for value in candidates if not np.isnan(value)]
        found[i] = max(known, default=np.nan)
    return found


def discordant(concordances: np.ndarray, replications: np.ndarray, n_obs: int) -> np.ndarray:
    """Which modalities know next to nothing of the same cells as the others, bool, ``(n_modalities,)``.

    Their concordance is below :data:`CONCORDANT` by more than two standard errors: of few cells it may be low by chance.
    """
    return concordances + 2 * concordance_error(replications, n_obs) < CONCORDANT


def concordance_error(replications: np.ndarray, n_obs: int) -> np.ndarray:
    """Standard error of each modality's concordance with the best other where cells are paired at random, ``(n_modalities,)``.

    Two lists of k of the other n - 1 cells share :math:`k^2 / (n - 1)` by chance, with about that variance. Where a third
    replicates, the error is .04 with 100 cells and .004 with 1,000.
    """
    n = min(n_obs, _MOST_CELLS)
    k = min(_N_NEIGHBORS, (n - 1) // 2)
    replicated = np.sqrt(replications * _best_others(replications))
    overlap = 1 / np.sqrt(n * (n - 1 - k)) if k > 0 else np.inf
    return np.divide(overlap, replicated, out=np.full(len(replicated), np.inf), where=replicated > 0)


def _best_others(replications: np.ndarray) -> np.ndarray:
    return np.array([np.delete(replications, i).max(initial=0) for i in range(len(replications))])


def _together(halves: Sequence[Halves], shares: Sequence[float], random_state: int | None) -> list[np.ndarray]:
    scores = [
        np.hstack(
            [
                np.sqrt(share) * of.scores[which] / max(np.sqrt(of.scores[which].var(axis=0).sum()), 1e-12)
                for of, share in zip(halves, shares, strict=True)
            ]
        ).astype(np.float32)
        for which in range(2)
    ]
    return _tables(scores, halves[0].tables[0].shape[1] - 1, random_state)


def modality_weights(replications: np.ndarray, concordance: float | np.ndarray = 1.0) -> np.ndarray:
    r"""Weights of the modalities in a joint space, :math:`w_m = \sqrt{r_m d_m / \sum r d}`; equal where nothing replicates.

    r is the replication. d is 1, and less for a modality whose concordance c with the others is below C = 0.05: RNA and
    proteins of the same cells have .2 to .4 on public sets, cells paired at random less than .01. Then

    .. math:: d_m = 1 - (1 - c_m / C) \min(\max_{o \neq m} r_o / 0.02, 1),

    since others that themselves replicate less than 0.02, which noise does, vouch for that much less. The first, the main one,
    is not outvoted by a single other. Among three or more it is, in as far as others agree with each other,
    :math:`\max_{o \neq 1} c_o / C`, and not with it.

    Parameters
    ----------
    replications
        Shape ``(n_modalities,)``.
    concordance
        Of each modality with the others (:func:`concordances`), or one number for all. Not a number raises no doubt.
    """
    r = np.maximum(np.asarray(replications, dtype=np.float64), 0)
    if r.sum() <= 0:
        return np.full(len(r), np.sqrt(1 / len(r)))
    agrees = np.minimum(np.nan_to_num(np.broadcast_to(concordance, r.shape), nan=CONCORDANT) / CONCORDANT, 1)
    doubt = 1 - agrees
    doubt[0] *= agrees[1:].max() if len(r) > 2 else 0
    r = r * (1 - doubt * np.minimum(_best_others(r) / _SPEAKS, 1))
    return np.sqrt(r / r.sum()) if r.sum() > 0 else np.full(len(r), np.sqrt(1 / len(r)))
