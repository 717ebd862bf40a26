"""Where batches lie, told apart from which types they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_CELLS_OF_A_GROUP = 40
_MOST_GROUPS = 50
_CELLS_OF_A_TYPE = 100
_MOST_TYPES = 20
"""Coarser groups where batches are compared with each other: shares of fine ones could stand for a shift of their type."""
_ALIKE = 0.2
"""Share of a batch's cells in other groups than those of all batches below which its mean is the surer position."""
_MOST_CELLS = 20_000
_ROUNDS = 20
_OWN_COMPOSITION = 0.25
"""Share of the variance within a group by which the mean of its cells in a batch may differ without any shift."""


def batch_shift(x: np.ndarray, reference: np.ndarray, *, random_state: int = 0) -> np.ndarray:
    r"""What to add to a batch of cells so that they lie among the reference, float64, shape ``(n_components,)``.

    The reference is cut into groups of about 40 cells (k-means). Groups of the batch's cells, the share of each group in the batch
    and the shift are found in turn (expectation maximisation of a mixture with equal, spherical variances), so that a batch
    of one sorted type is compared with its own type, not with the mean of all cells.

    Each group :math:`g` gives a shift of its own, :math:`d_g`. Where a batch only holds other types or subtypes than the
    reference, these point in various directions; a true shift :math:`b` is the same in all. So :math:`b` is multiplied by
    :math:`\max(0, 1 - v / \|b\|^2)` (James and Stein), where v is the variance of a mean of so many groups.

    Parameters
    ----------
    x
        The batch's cells, ``(n_new, n_components)``.
    reference
        Reference cells in the same space, ``(n_obs, n_components)``.
    random_state
        Seed of the groups.
    """
    x = np.asarray(x, dtype=np.float64)
    n_groups = int(np.clip(min(len(reference), _MOST_CELLS) // _CELLS_OF_A_GROUP, 1, _MOST_GROUPS))
    centers, shares, variance = _groups(np.asarray(reference, dtype=np.float64), n_groups, random_state)
    shift = np.zeros(x.shape[1])
    if variance <= 0:
        return shift
    shares_here = shares
    for _ in range(_ROUNDS):
        belongs = _responsibilities(x + shift, centers, shares_here, variance)
        sizes = belongs.sum(axis=0)
        shares_here = (sizes + shares) / (sizes.sum() + 1)
        shift = (sizes @ centers - x.sum(axis=0)) / len(x)
    means = (belongs.T @ x) / np.maximum(sizes, 1e-9)[:, None]
    weights = sizes / sizes.sum()
    n_groups = 1 / np.square(weights).sum()
    scatter = float(weights @ np.square(centers - means - shift).sum(axis=1)) / max(n_groups - 1, 1e-9)
    least = _OWN_COMPOSITION * variance * x.shape[1] / n_groups
    uncertainty = max(scatter, least) if n_groups > 1.5 else least
    return shift * max(0.0, 1 - uncertainty / max(float(shift @ shift), 1e-12))


def batch_positions(
    scores: np.ndarray, codes: np.ndarray | None, n_batches: int, *, random_state: int = 0
) -> np.ndarray:
    r"""Where each batch lies in a space, 0 for those without cells, float32, shape ``(n_batches, n_components)``.

    The mean of a batch also tells which types it holds: a batch without B cells lies away from the others though no cell has moved.
    So all batches share at most 20 groups, :math:`μ_g`, each has shares of its own, :math:`π_{bg}`, and its position is
    the mean over its cells of :math:`x_i - \sum_g r_{ig} μ_g`, with :math:`r_{ig}` the probability that the cell is of the
    group. Shares, positions and groups are found in turn (expectation maximisation of a mixture with equal, spherical variances),
    once from k-means of the cells as they are and once from k-means of the cells centred by batch. The outcome whose cells
    lie nearer to their groups is taken. Positions have the mean of all cells.

    Where no batch's shares differ from those of all cells by a fifth or more, positions are the plain means: they do not depend on groups.

    Parameters
    ----------
    scores
        Cells, ``(n_obs, n_components)``.
    codes
        Batch of each, from 0 below ``n_batches``; ``None`` where there are none.
    random_state
        Seed of the groups and, of more than 20,000 cells in a batch, of those that are looked at.
    """
    positions = np.zeros((n_batches, scores.shape[1]), dtype=np.float32)
    if codes is None:
        return positions
    present, sizes = np.unique(codes, return_counts=True)
    members = [np.flatnonzero(codes == code) for code in present]
    means = np.array([scores[cells].mean(axis=0, dtype=np.float64) for cells in members])
    found = means
    if len(present) > 1:
        rng = np.random.default_rng(random_state)
        x = [np.asarray(scores[_some(cells, rng)], dtype=np.float64) for cells in members]
        grand_mean = np.average(means, axis=0, weights=sizes)
        starts = np.tile(grand_mean, (len(means), 1)), means
        spread, apart, shares = min(
            (_apart(x, start, random_state) for start in starts), key=lambda outcome: outcome[0]
        )
        differing = np.abs(shares - np.average(shares, axis=0, weights=sizes)).sum(axis=1) / 2
        if spread > 0 and differing.max() >= _ALIKE:
            found = apart + grand_mean - np.average(apart, axis=0, weights=sizes)
    positions[present] = found
    return positions


def _apart(x: Sequence[np.ndarray], positions: np.ndarray, random_state: int) -> tuple[float, np.ndarray, np.ndarray]:
    """From a start: mean squared distance of cells to groups, positions of batches, shares of groups in each."""
    together = np.vstack([of_batch - position for of_batch, position in zip(x, positions, strict=True)])
    n_groups = int(np.clip(len(together) // _CELLS_OF_A_TYPE, 1, _MOST_TYPES))
    centers, shares, variance = _groups(together, n_groups, random_state)
    if variance <= 0:
        return 0.0, positions, np.tile(shares, (len(x), 1))
    positions, of_batches = positions.copy(), [shares] * len(x)
    for _ in range(_ROUNDS):
        totals, sums, apart = np.zeros(len(centers)), np.zeros_like(centers), 0.0
        for i, of_batch in enumerate(x):
            belongs = _responsibilities(of_batch - positions[i], centers, of_batches[i], variance)
            own = belongs.sum(axis=0)
            of_batches[i] = (own + shares) / (own.sum() + 1)
            positions[i] = (of_batch.sum(axis=0) - own @ centers) / len(of_batch)
            apart += float((belongs * _squared(of_batch - positions[i], centers)).sum())
            totals += own
            sums += belongs.T @ (of_batch - positions[i])
        centers = np.where(totals[:, None] > 0, sums / np.maximum(totals, 1e-12)[:, None], centers)
    return apart / len(together), positions, np.array(of_batches)


def _some(cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cells if len(cells) <= _MOST_CELLS else np.sort(rng.choice(cells, _MOST_CELLS, replace=False))


def _groups(x: np.ndarray, n_groups: int, random_state: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Centres of k-means, the share of each in the cells, and the mean variance of a component around them."""
    rng = np.random.default_rng(random_state)
    if len(x) > _MOST_CELLS:
        x = x[np.sort(rng.permutation(len(x))[:_MOST_CELLS])]
    centers = _spread_out(x, n_groups, rng)
    for _ in range(_ROUNDS):
        nearest = _squared(x, centers).argmin(axis=1)
        sizes = np.bincount(nearest, minlength=n_groups)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, x)
        centers = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centers)
    spread = np.square(x - centers[nearest]).sum() / max(len(x) - n_groups, 1) / x.shape[1]
    return centers, sizes / len(x), float(spread)


def _spread_out(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Cells far from one another to begin with, each drawn by its squared distance to the nearest (k-means++)."""
    chosen = [int(rng.integers(len(x)))]
    distance = np.square(x - x[chosen[0]]).sum(axis=1)
    while len(chosen) < n:
        total = distance.sum()
        chosen.append(int(rng.choice(len(x), p=distance / total if total > 0 else None)))
        distance = np.minimum(distance, np.square(x - x[chosen[-1]]).sum(axis=1))
    return x[chosen]


def _squared(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
    own = np.square(x).sum(axis=1)[:, None] + np.square(centers).sum(axis=1)
    return np.maximum(own - 2 * x @ centers.T, 0)


def _responsibilities(x: np.ndarray, centers: np.ndarray, shares: np.ndarray, variance: float) -> np.ndarray:
    log = np.log(shares + 1e-12) - _squared(x, centers) / (2 * variance)
    log -= log.max(axis=1, keepdims=True)
    of = np.exp(log)
    return np.asarray(of / of.sum(axis=1, keepdims=True))
