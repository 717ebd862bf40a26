"""Fusion of the fitted views with weights on the simplex (paper, eq. 11-12)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.transforms import View

_COLUMNS = 256
_FUSED_COLUMNS = 64  # few enough that all views of a block stay in the cache
_CORRELATED_BLOCKS = 16  # a thousand features
_SMALLEST_DEVIATION = 1e-6
_ROUNDING = 1e-5


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


def _column_blocks(n_vars: int, width: int) -> Iterator[slice]:
    for start in range(0, n_vars, width):
        yield slice(start, min(start + width, n_vars))


def fitted_view(view: View, operator: sp.csr_array) -> np.ndarray:
    """One view moved by its operator, not standardised, float32, shape ``(n_obs, n_vars)``."""
    result = np.empty(view.shape, dtype=np.float32)
    for block in _column_blocks(view.shape[1], _COLUMNS):
        result[:, block] = operator @ view.columns(block.start, block.stop)
    return result


def fused(
    views: Sequence[View],
    operators: Sequence[sp.csr_array],
    *,
    penalty: float = 1.0,
    batches: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fused fitted data, standardised per feature, float32, shape ``(n_obs, n_vars)``, and the weights of the views.

    Inner products decide the weights; their mean over features is taken from blocks spread evenly over all of them where
    there are more than a thousand. Then the sum is written, block by block. No view is ever held whole. ``batches`` holds the
    batch number of each cell, where features are standardised within batches.
    """
    n_obs, n_vars = views[0].shape
    groups = [np.arange(n_obs)] if batches is None else [np.flatnonzero(batches == code) for code in np.unique(batches)]
    fits = [_Fit(views, [operator[rows] if len(groups) > 1 else operator for operator in operators]) for rows in groups]
    blocks = list(_column_blocks(n_vars, _FUSED_COLUMNS))
    some = blocks[:: -(-len(blocks) // _CORRELATED_BLOCKS)]
    gram = np.sum([np.sum(in_threads(fit.correlate, some), axis=0) for fit in fits], axis=0)
    n_correlated = sum(block.stop - block.start for block in some)
    weights = fusion_weights(gram / (n_obs * n_correlated), penalty=penalty)
    result = np.empty((n_obs, n_vars), dtype=np.float32)

    def write(columns: slice) -> None:
        for rows, fit in zip(groups, fits, strict=True):
            result[rows if len(groups) > 1 else slice(None), columns] = fit.combine(columns, weights)

    in_threads(write, blocks)
    return result, weights


class _Fit:
    """Fitted views of one group of cells, block of features by block of features.

    Standardising takes off what an offset adds to a feature, so :attr:`View.column_offset` plays no part. Views that share
    operator and values share their product.
    """

    def __init__(self, views: Sequence[View], operators: Sequence[sp.csr_array]) -> None:
        self.views = views
        self.operators = operators
        self.offsets = [
            offset - offset.mean() if offset.any() else None
            for offset in (operator @ view.row_offset for view, operator in zip(views, operators, strict=True))
        ]

    def correlate(self, columns: slice) -> np.ndarray:
        """Inner products of the standardised views, ``(n_views, n_views)``."""
        moved, inverse = self._moved(columns)
        gram = np.empty((len(moved), len(moved)))
        for i, j in itertools.combinations_with_replacement(range(len(moved)), 2):
            gram[i, j] = gram[j, i] = np.einsum("ij,ij->j", moved[i], moved[j]) @ (inverse[i] * inverse[j])
        return gram

    def combine(self, columns: slice, weights: np.ndarray) -> np.ndarray:
        """The weighted sum of the standardised views, standardised."""
        moved, inverse = self._moved(columns)
        result = np.zeros_like(moved[0])
        for x, factor in zip(moved, weights.astype(np.float32)[:, None] * inverse, strict=True):
            result += x * factor
        return standardise(result)

    def _moved(self, columns: slice) -> tuple[list[np.ndarray], np.ndarray]:
        """The views moved by their operators and centred, and one over each feature's deviation, 0 where there is none."""
        values = {id(values): values[:, columns].toarray() for values in (view.values for view in self.views)}
        products: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        moved = []
        inverse = np.zeros((len(self.views), columns.stop - columns.start), dtype=np.float32)
        for view, operator, offset, of_view in zip(self.views, self.operators, self.offsets, inverse, strict=True):
            key = id(operator), id(view.values)
            if key not in products:
                x = operator @ values[id(view.values)]
                products[key] = x, x.mean(axis=0)
                x -= products[key][1]
            x, mean = products[key]
            if view.scale != 1 or offset is not None:
                x = np.float32(view.scale) * x
            if offset is not None:
                x += offset[:, None]
            moved.append(x)
            # sums of equal numbers in another order differ by their rounding
            smallest = np.maximum(_SMALLEST_DEVIATION, _ROUNDING * np.abs(view.scale * mean))
            deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
            np.divide(1, deviation, out=of_view, where=deviation > smallest)
        return moved, inverse


def standardise(x: np.ndarray, batches: np.ndarray | None = None) -> np.ndarray:
    """Each feature at mean 0 and variance 1, over all cells or within each batch; features that do not vary become 0."""
    if batches is not None:
        result = np.empty(x.shape, dtype=np.float32)
        for code in np.unique(batches):
            result[batches == code] = standardise(x[batches == code])
        return result
    centered = x - x.mean(axis=0)
    deviation = np.sqrt(np.einsum("ij,ij->j", centered, centered) / len(x))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > _SMALLEST_DEVIATION)
    return np.multiply(centered, inverse, out=centered).astype(np.float32, copy=False)
