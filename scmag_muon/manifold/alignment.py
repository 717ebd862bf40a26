"""How far a batch of further cells lies from the reference, told apart from which types it holds."""

from __future__ import annotations

import numpy as np

_CELLS_OF_A_GROUP = 40
_MOST_GROUPS = 50
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
    centers, shares, variance = _groups(np.asarray(reference, dtype=np.float64), random_state)
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


def _groups(x: np.ndarray, random_state: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Centres of k-means, the share of each in the cells, and the mean variance of a component around them."""
    rng = np.random.default_rng(random_state)
    if len(x) > _MOST_CELLS:
        x = x[np.sort(rng.permutation(len(x))[:_MOST_CELLS])]
    n_groups = int(np.clip(len(x) // _CELLS_OF_A_GROUP, 1, _MOST_GROUPS))
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
