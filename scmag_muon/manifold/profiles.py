"""Mean expression of groups of cells, in units in which chance differences are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.transforms import POWER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.manifold.transforms import View

_CONSTANT = 1e-6


def group_profiles(
    views: Sequence[View], weights: Sequence[float], groups: np.ndarray, batches: np.ndarray | None = None
) -> np.ndarray:
    """Mean of each group in units of the spread within groups, rotated to as few dimensions as there are groups.

    Each feature's mean is divided by its standard deviation within groups, pooled over all; squared differences are averaged
    over features, which count as they do in :func:`~scmag_muon.manifold.transforms.scaled`, and over modalities by the squares
    of their weights. So scaled, the squared distance of two groups of a and b cells that differ by chance only is
    :math:`1/a + 1/b`.

    Parameters
    ----------
    views
        Transformed data of each modality, ``(n_obs, n_vars)``.
    weights
        Weight of each modality.
    groups
        Integers from 0 without gaps, shape ``(n_obs,)``.
    batches
        Integers from 0, shape ``(n_obs,)``: the data are centred within each first.

    Returns
    -------
    Shape ``(n_groups, n_dimensions)``.
    """
    batches = np.zeros(len(groups), int) if batches is None else batches
    squared = np.square(weights) / np.square(weights).sum()
    scaled = []
    for view, weight in zip(views, squared, strict=True):
        means, deviation = _standardized_means(view, groups, batches)
        of_feature = deviation ** (2 - 2 * POWER)
        scaled.append(means * np.sqrt(weight * of_feature / max(of_feature.sum(), 1e-12)))
    vectors, values, _ = np.linalg.svd(np.hstack(scaled), full_matrices=False)
    return vectors * values


def _standardized_means(view: View, groups: np.ndarray, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n_obs = len(groups)
    of_group, of_batch = _averaging(groups), _averaging(batches)
    share_of_group = np.bincount(groups) / n_obs
    share_of_batch = np.bincount(batches) / n_obs
    batch_means = _means(view, of_batch)
    means = _means(view, of_group) - (of_group @ _one_hot(batches)).toarray() @ batch_means
    within = _mean_squares(view) - share_of_batch @ batch_means**2
    total = within.copy()
    within -= share_of_group @ means**2
    varies = within > _CONSTANT * np.maximum(total, _CONSTANT)
    deviation = np.sqrt(np.where(varies, within, 0))
    return np.divide(means, deviation, out=np.zeros_like(means), where=varies), deviation


def _one_hot(labels: np.ndarray) -> sp.csr_array:
    return sp.csr_array((np.ones(len(labels)), (np.arange(len(labels)), labels)))


def _averaging(labels: np.ndarray) -> sp.csr_array:
    """Matrix that takes the mean over the cells of each label, ``(n_labels, n_obs)``."""
    return sp.csr_array((1 / np.bincount(labels)[labels], (labels, np.arange(len(labels)))))


def _means(view: View, averaging: sp.csr_array) -> np.ndarray:
    """Means of the view without its column offset, which no difference knows of."""
    return view.scale * (averaging @ view.values).toarray() + (averaging @ view.row_offset)[:, None]


def _mean_squares(view: View) -> np.ndarray:
    values = view.values
    square = values.power(2).mean(axis=0)
    crossed = values.T @ view.row_offset / view.shape[0]
    return view.scale**2 * square + 2 * view.scale * crossed + np.mean(view.row_offset.astype(float) ** 2)
