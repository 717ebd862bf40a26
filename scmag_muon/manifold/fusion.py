"""Fusion of the fitted views with weights on the simplex (paper, eq. 11-12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.transforms import View

_COLUMNS = 256


def simplex_projection(v: np.ndarray) -> np.ndarray:
    """The nearest point to ``v`` with non-negative entries that sum to 1."""
    descending = np.sort(v)[::-1]
    excess = np.cumsum(descending) - 1
    last = np.flatnonzero(descending * np.arange(1, len(v) + 1) > excess)[-1]
    return np.maximum(v - excess[last] / (last + 1), 0)


def fusion_weights(gram: np.ndarray, *, penalty: float = 1.0, max_iter: int = 200, tol: float = 1e-9) -> np.ndarray:
    r"""Weights α of the views that minimise :math:`\sum_i α_i \|Y - Y_i\|^2 + λ\|α\|^2` with :math:`Y = \sum_i α_i Y_i`.

    Parameters
    ----------
    gram
        Inner products of the views per entry, :math:`\langle Y_i, Y_j\rangle / (ND)`, shape ``(n_views, n_views)``. Distances
        per entry make the penalty mean the same for data of every size.
    penalty
        λ of eq. 12.

    Returns
    -------
    Weights, non-negative, sum 1. Y and α each depend on the other: the two closed forms (weighted sum; simplex projection
    of :math:`-d / 2λ`) alternate, each step halved towards the new weights, until they no longer move.
    """
    n_views = len(gram)
    weights = np.full(n_views, 1 / n_views)
    for _ in range(max_iter):
        distance = weights @ gram @ weights - 2 * gram @ weights + np.diag(gram)
        updated = simplex_projection(-distance / (2 * penalty))
        moved = np.abs(updated - weights).max()
        weights = (weights + updated) / 2
        if moved < tol:
            break
    return weights


def _column_blocks(n_vars: int) -> Iterator[slice]:
    for start in range(0, n_vars, _COLUMNS):
        yield slice(start, min(start + _COLUMNS, n_vars))


def fitted_view(view: View, operator: sp.csr_array) -> np.ndarray:
    """One view moved by its operator, not standardised, float32, shape ``(n_obs, n_vars)``."""
    result = np.empty(view.shape, dtype=np.float32)
    for block in _column_blocks(view.shape[1]):
        result[:, block] = operator @ view.columns(block.start, block.stop)
    return result


def _fitted_blocks(
    views: Sequence[View], operators: Sequence[sp.csr_array], batches: np.ndarray | None
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    for block in _column_blocks(views[0].shape[1]):
        moved = (op @ view.columns(block.start, block.stop) for view, op in zip(views, operators, strict=True))
        yield block, [standardise(x, batches) for x in moved]


def fused(
    views: Sequence[View],
    operators: Sequence[sp.csr_array],
    *,
    penalty: float = 1.0,
    batches: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fused fitted data, standardised per feature, float32, shape ``(n_obs, n_vars)``, and the weights of the views.

    Two passes over blocks of features: one for the inner products that decide the weights, one that writes the sum. No view
    is ever held whole. ``batches`` holds the batch number of each cell, where features are standardised within batches.
    """
    n_obs, n_vars = views[0].shape
    gram = np.zeros((len(views), len(views)))
    for _, blocks in _fitted_blocks(views, operators, batches):
        flat = np.stack([block.ravel() for block in blocks])
        gram += (flat @ flat.T).astype(np.float64)
    weights = fusion_weights(gram / (n_obs * n_vars), penalty=penalty)
    result = np.empty((n_obs, n_vars), dtype=np.float32)
    for columns, blocks in _fitted_blocks(views, operators, batches):
        combined = sum(weight * block for weight, block in zip(weights, blocks, strict=True))
        result[:, columns] = standardise(combined, batches)
    return result, weights


def standardise(x: np.ndarray, batches: np.ndarray | None = None) -> np.ndarray:
    """Each feature at mean 0 and variance 1, over all cells or within each batch; features that do not vary become 0."""
    if batches is not None:
        result = np.empty(x.shape, dtype=np.float32)
        for code in np.unique(batches):
            result[batches == code] = standardise(x[batches == code])
        return result
    centered = x - x.mean(axis=0)
    deviation = centered.std(axis=0)
    varies = deviation > 1e-6
    return np.multiply(centered, np.divide(1, deviation, out=np.zeros_like(deviation), where=varies), dtype=np.float32)
