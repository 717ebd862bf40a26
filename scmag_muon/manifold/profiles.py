"""Mean expression of groups of cells, in units in which chance differences are known."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.spatial.distance import pdist

from scmag_muon.manifold.threads import in_threads
from scmag_muon.manifold.transforms import POWER, column_blocks, row_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.manifold.transforms import View

_CONSTANT = 1e-6


def group_profiles(
    views: Sequence[View], weights: Sequence[float], divisions: np.ndarray, batches: np.ndarray | None = None
) -> list[np.ndarray]:
    """Mean of each group in units of the spread within groups, rotated to as few dimensions as there are groups.

    Each feature's mean is divided by its standard deviation within groups, pooled over all; squared differences are averaged
    over features, which count as they do in :func:`~scmag_muon.manifold.transforms.scaled`, and over modalities by the squares
    of their weights. So scaled, the squared distance of two groups of a and b cells that differ by chance only is
    :math:`1/a + 1/b`.

    A protein of a thousand counts differs by more standard deviations than a gene of one. Among three or more modalities the
    squared weight of each is therefore divided by its median squared distance of two groups, at least that of chance. Else the
    types that only the modalities of few counts tell apart would be lost. The shares still sum to 1.

    Parameters
    ----------
    views
        Transformed data of each modality, ``(n_obs, n_vars)``.
    weights
        Weight of each modality.
    divisions
        Group of each cell, integers from 0 without gaps, shape ``(n_obs, n_divisions)``: the cells may be grouped in several
        ways.
    batches
        Integers from 0, shape ``(n_obs,)``: the data are centred within each first.

    Returns
    -------
    For each division an array ``(n_groups, n_dimensions)``.
    """
    batches = np.zeros(len(divisions), int) if batches is None else batches
    squared = np.square(weights) / np.square(weights).sum()
    centered = [_Centered(view, batches) for view in views]
    return in_threads(partial(_profiles, centered, squared), divisions.T)


def _profiles(views: Sequence[_Centered], weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    if len(views) > 2:
        alone = [_scaled(view, 1.0, groups) for view in views]
        weights = weights / [_typical_distance(means, np.bincount(groups)) for means in alone]
        weights = weights / weights.sum()
        scaled = [means * np.sqrt(weight) for means, weight in zip(alone, weights, strict=True)]
    else:
        scaled = [_scaled(view, weight, groups) for view, weight in zip(views, weights, strict=True)]
    vectors, values, _ = np.linalg.svd(np.hstack(scaled), full_matrices=False)
    return vectors * values


def _scaled(view: _Centered, weight: float, groups: np.ndarray) -> np.ndarray:
    means, deviation = view.standardized_means(groups)
    of_feature = deviation ** (2 - 2 * POWER)
    return means * np.sqrt(weight * of_feature / max(of_feature.sum(), 1e-12))


def _typical_distance(means: np.ndarray, sizes: np.ndarray) -> float:
    """Median squared distance of two groups, at least what chance gives to groups of these sizes."""
    by_chance = float(np.median(2 / sizes))
    return by_chance if len(means) < 2 else max(float(np.median(pdist(means, "sqeuclidean"))), by_chance)


class _Centered:
    """A view with the means of each batch taken off."""

    def __init__(self, view: View, batches: np.ndarray) -> None:
        self.view = view
        self.batches = _one_hot(batches)
        self.batch_means = _means(view, _averaging(batches))
        self.variance = _mean_squares(view) - np.bincount(batches) / len(batches) @ self.batch_means**2

    def standardized_means(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean of each group over the deviation within groups, ``(n_groups, n_vars)``, and that deviation, 0 for constants."""
        averaging = _averaging(groups)
        means = _means(self.view, averaging) - (averaging.T @ self.batches).toarray() @ self.batch_means
        within = self.variance - np.bincount(groups) / len(groups) @ means**2
        varies = within > _CONSTANT * np.maximum(self.variance, _CONSTANT)
        deviation = np.sqrt(np.where(varies, within, 0))
        return np.divide(means, deviation, out=np.zeros_like(means), where=varies), deviation


def _one_hot(labels: np.ndarray) -> sp.csr_array:
    return sp.csr_array((np.ones(len(labels)), (np.arange(len(labels)), labels)))


def _averaging(labels: np.ndarray) -> sp.csr_array:
    """Share that each cell has in the mean of its label, ``(n_obs, n_labels)``."""
    return sp.csr_array((1 / np.bincount(labels)[labels], (np.arange(len(labels)), labels)))


def _means(view: View, averaging: sp.csr_array) -> np.ndarray:
    """Means of the view without its column offset, which no difference knows of."""
    if isinstance(view.values, sp.csr_array):
        means = np.zeros((averaging.shape[1], view.shape[1]))
        for rows, _ in row_blocks(view.values):
            means += (averaging[rows].T @ view.values[rows]).toarray()
        return view.scale * means + (averaging.T @ view.row_offset)[:, None]
    # so turned, columns that lie one after the other are the rows of a product, and nothing is sorted anew
    blocks = (view.values[:, columns].T for columns, _ in column_blocks(view.values))
    means = np.hstack([(block @ averaging).toarray().T for block in blocks])
    return view.scale * means + (averaging.T @ view.row_offset)[:, None]


def _mean_squares(view: View) -> np.ndarray:
    if isinstance(view.values, sp.csr_array):
        square, crossed = np.sum([_squares(view, *block) for block in row_blocks(view.values)], axis=0) / view.shape[0]
        return view.scale**2 * square + 2 * view.scale * crossed + np.mean(view.row_offset.astype(float) ** 2)
    squares, crosses = [], []
    for columns, _ in column_blocks(view.values):
        values = view.values[:, columns]
        squares.append(values.power(2).mean(axis=0))
        crosses.append(values.T @ view.row_offset / view.shape[0])
    square, crossed = np.concatenate(squares), np.concatenate(crosses)
    return view.scale**2 * square + 2 * view.scale * crossed + np.mean(view.row_offset.astype(float) ** 2)


def _squares(view: View, rows: slice, entries: slice) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of the values, and of their products with the offset of their cell, by feature."""
    values, columns = view.values.data[entries].astype(np.float64), view.values.indices[entries]
    offsets = np.repeat(view.row_offset[rows], np.diff(view.values.indptr[rows.start : rows.stop + 1]))
    squares, crosses = (np.bincount(columns, weights=values * of, minlength=view.shape[1]) for of in (values, offsets))
    return squares, crosses
