"""How unlike the reference a cell is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.transfer._neighbors import Neighbors, others_with_distance

if TYPE_CHECKING:
    from collections.abc import Callable

_NEIGHBORS = 30
_QUANTILE = 0.99
_TAIL = 0.05
_FOLDS = 5
_FEWEST_CELLS = 20
_COMPANY = 5
_RIDGE = 1e-3
"""Of the mean variance, added to each: directions without any spread can't decide alone."""
_BLOCK = 4_000_000


def unlikeness(
    x: np.ndarray,
    reference: np.ndarray,
    groups: np.ndarray,
    *,
    samples: np.ndarray | None = None,
    random_state: int = 0,
) -> np.ndarray:
    r"""How far cells lie from the reference; 1 is what one in a hundred of the reference's own cells exceeds, ``(n_new,)``.

    Two measures are joined. One is the mean distance to the 30 nearest reference cells: it finds cells where the reference has none. The
    other is the relative Mahalanobis distance (Ren et al., 2021): the squared distance to the nearest mean of a group, in units of the
    spread within groups, less that to the mean of all cells, in units of the total spread. It finds cells between groups, along
    directions that tell groups apart.

    Each measure becomes the surprise :math:`-\log p`, where p is the share of the reference's own cells that have as much of it; beyond
    the 95th percentile, p falls off exponentially. The two surprises are summed, as Fisher does for p values. The reference's cells are
    measured without themselves: by their other neighbours, and by groups of the other four fifths of the cells. The 99th
    percentile of their sums is the unit.

    A type that the reference lacks has several cells. So with ``samples``, the sum of a cell is the mean over the cell and its 5
    nearest cells of the sample, as it is for the reference's cells and their neighbours then.

    Parameters
    ----------
    x
        Coordinates of the cells, ``(n_new, n_components)``.
    reference
        Coordinates of the reference's cells, ``(n_obs, n_components)``.
    groups
        Type or cluster of each of these, ``(n_obs,)``. With fewer than two groups, or 20 cells, the distance alone counts.
    samples
        Sample of each of ``x``, ``(n_new,)``; ``None``: each cell stands alone, as do those of samples of fewer than 20 cells.
    random_state
        Seed of the fifths.
    """
    return unlikeness_by(Neighbors(x, reference), groups, samples=samples, random_state=random_state)


def unlikeness_by(
    neighbors: Neighbors, groups: np.ndarray, *, samples: np.ndarray | None = None, random_state: int = 0
) -> np.ndarray:
    """What :func:`unlikeness` says, by neighbours that others use too."""
    x, reference = neighbors.x, neighbors.reference
    if len(reference) < 2:
        return np.zeros(len(x))
    k = min(_NEIGHBORS, len(reference) - 1)
    others, squared = neighbors.others(k)
    measures = [(_means(squared), _means(neighbors.nearest(k)[1]))]
    if len(reference) >= _FEWEST_CELLS and (np.asarray(groups) != np.asarray(groups)[0]).any():
        measures.append(_relative(x, reference, np.asarray(groups), random_state))
    of_reference = np.sum([_surprise(own, own) for own, _ in measures], axis=0)
    of_cells = np.sum([_surprise(own, new) for own, new in measures], axis=0)
    result = of_cells / _unit(of_reference)
    unit = _unit(_with_company(of_reference, others[:, :_COMPANY]))
    for sample in () if samples is None else np.unique(samples):
        rows = np.flatnonzero(samples == sample)
        if len(rows) >= _FEWEST_CELLS:
            company, _ = others_with_distance(x[rows], _COMPANY)
            result[rows] = _with_company(of_cells[rows], company) / unit
    return np.asarray(result)


def _means(squared: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(squared).mean(axis=1, dtype=np.float64))


def _unit(of_reference: np.ndarray) -> float:
    return max(float(np.quantile(of_reference, _QUANTILE)), 1e-9)


def _with_company(values: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    return np.asarray((values + values[nearest].sum(axis=1)) / (1 + nearest.shape[1]))


def _relative(
    x: np.ndarray, reference: np.ndarray, groups: np.ndarray, random_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """Relative Mahalanobis distance, of the reference's cells by groups that were learnt without them, and of others."""
    x, reference = (np.asarray(of, dtype=np.float64) for of in (x, reference))
    fold = np.random.default_rng(random_state).permutation(len(reference)) % _FOLDS
    own = np.empty(len(reference))
    for i in range(_FOLDS):
        own[fold == i] = _learn(reference[fold != i], groups[fold != i])(reference[fold == i])
    return own, _learn(reference, groups)(x)


def _learn(x: np.ndarray, groups: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(sizes), x.shape[1]))
    np.add.at(means, codes, x)
    means /= sizes[:, None]
    center = x.mean(axis=0)
    within, total = _whitening(x - means[codes]), _whitening(x - center)
    at = means @ within

    def measure(of: np.ndarray) -> np.ndarray:
        result = np.empty(len(of))
        step = max(1, _BLOCK // len(at))
        for start in range(0, len(of), step):
            rows = of[start : start + step]
            own = rows @ within
            nearest = (np.square(at).sum(axis=1) - 2 * own @ at.T).min(axis=1) + np.square(own).sum(axis=1)
            result[start : start + step] = nearest - np.square((rows - center) @ total).sum(axis=1)
        return result

    return measure


def _whitening(residuals: np.ndarray) -> np.ndarray:
    covariance = residuals.T @ residuals / len(residuals)
    ridge = _RIDGE * np.trace(covariance) / len(covariance) + 1e-12
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance + ridge * np.eye(len(covariance)))))


def _surprise(own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """-log of the share of ``own`` that reach each value, exponential beyond the 95th percentile."""
    cut = float(np.quantile(own, 1 - _TAIL))
    excess = own[own > cut] - cut
    slope = max(float(excess.mean()) if len(excess) else 0.0, 1e-6 * abs(cut), 1e-12)
    reached = len(own) - np.searchsorted(np.sort(own), values, side="left")
    return np.where(values > cut, (values - cut) / slope - np.log(_TAIL), -np.log((reached + 1) / (len(own) + 1)))
