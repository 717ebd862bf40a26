"""Fusion of the fitted views with weights on the simplex (paper, eq. 11-12)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from scmag_muon.manifold.threads import elsewhere, in_blocks, in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.transforms import View

_COLUMNS = 256
_FUSED_COLUMNS = 64  # few enough that all views of a block stay in the cache
_FUSED_VALUES = 2**24  # of a block, several arrays of which are there in each thread
_CORRELATED_FEATURES = 1024
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


def _column_blocks(columns: slice, width: int) -> Iterator[slice]:
    for start in range(columns.start, columns.stop, width):
        yield slice(start, min(start + width, columns.stop))


def fitted_view(view: View, operator: sp.csr_array) -> np.ndarray:
    """One view moved by its operator, not standardised, float32, shape ``(n_obs, n_vars)``."""
    result = np.empty(view.shape, dtype=np.float32)
    for block in _column_blocks(slice(0, view.shape[1]), _COLUMNS):
        result[:, block] = operator @ view.columns(block.start, block.stop)
    return result


@dataclass(frozen=True)
class Moments:
    r"""What turns fitted views :math:`C_v y_v` into the fused row :math:`\sum_v a_v C_v y_v + b`, for each batch and feature.

    Weights of the views, the means and deviations by which views are standardised and by which their sum is, all in one. The
    offsets that a view has for each feature are left out of :math:`y_v`.

    Parameters
    ----------
    slopes
        a, float32, ``(n_batches + 1, n_views, n_vars)``. The last is for cells of no such batch: the mean over cells.
    intercepts
        b, float32, ``(n_batches + 1, n_vars)``.
    """

    slopes: np.ndarray
    intercepts: np.ndarray


Section: TypeAlias = "tuple[slice, Callable[[], Sequence[View]]]"
"""Some features that follow each other, and what makes their views."""


def fused(
    views: Sequence[View],
    operators: Sequence[sp.csr_array],
    *,
    penalty: float = 1.0,
    batches: np.ndarray | None = None,
    n_batches: int | None = None,
    keep: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, Moments]:
    """What :func:`fused_sections` gives of views of all features."""
    sections = [(slice(0, views[0].shape[1]), lambda: views)]
    return fused_sections(sections, operators, penalty=penalty, batches=batches, n_batches=n_batches, keep=keep)


def fused_sections(
    sections: Sequence[Section],
    operators: Sequence[sp.csr_array],
    *,
    penalty: float = 1.0,
    batches: np.ndarray | None = None,
    n_batches: int | None = None,
    keep: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, Moments]:
    """Fused fitted data, standardised per feature, float32, shape ``(n_obs, n_vars)``; weights of the views; moments.

    Inner products decide the weights; their mean over features is taken from blocks spread evenly over all of them where
    there are more than a thousand. Then the sum is written, block by block. No view is ever held whole. ``batches`` holds the
    batch number of each cell, where features are standardised within batches; there are ``n_batches``, some perhaps empty. Without
    ``keep`` the data are ``None``, and nothing of cells by features is ever there. The views of each section are made twice, and
    only those of one are there at a time.
    """
    n_obs, n_vars = operators[0].shape[0], sections[-1][0].stop
    groups = [np.arange(n_obs)] if batches is None else [np.flatnonzero(batches == code) for code in np.unique(batches)]
    of_groups = [[operator[rows] if len(groups) > 1 else operator for operator in operators] for rows in groups]
    width = max(1, min(_FUSED_COLUMNS, _FUSED_VALUES // n_obs))
    every = -(-len(list(_column_blocks(slice(0, n_vars), width))) // (_CORRELATED_FEATURES // width))
    gram, n_correlated = np.zeros((len(operators), len(operators))), 0
    for columns, make in sections:
        some = [block for block in _column_blocks(columns, width) if block.start // width % every == 0]
        if some:
            gram += _correlated(make(), of_groups, [_within(block, columns) for block in some])
        n_correlated += sum(block.stop - block.start for block in some)
    weights = fusion_weights(gram / (n_obs * n_correlated), penalty=penalty)
    result = np.empty((n_obs, n_vars), dtype=np.float32) if keep else None
    slopes = np.empty((len(groups), len(operators), n_vars), dtype=np.float32)
    intercepts = np.empty((len(groups), n_vars), dtype=np.float32)

    def write(block: slice, found: list[tuple[np.ndarray | None, np.ndarray, np.ndarray]]) -> None:
        for i, (rows, (values, slope, intercept)) in enumerate(zip(groups, found, strict=True)):
            slopes[i, :, block], intercepts[i, block] = slope, intercept
            if result is not None:
                result[rows if len(groups) > 1 else slice(None), block] = values

    def fuse(columns: slice, views: Sequence[View]) -> None:
        fits = [_Fit(views, of_group) for of_group in of_groups]
        blocks = list(_column_blocks(columns, width))

        def combine(block: slice) -> list[tuple[np.ndarray | None, np.ndarray, np.ndarray]]:
            return [fit.combine(_within(block, columns), weights, keep=keep) for fit in fits]

        if elsewhere():
            for block, found in zip(blocks, in_blocks(combine, blocks), strict=True):
                write(block, found)
        else:
            in_threads(lambda block: write(block, combine(block)), blocks)

    for columns, make in sections:
        fuse(columns, make())
    codes = np.array([], dtype=int) if batches is None else np.unique(batches)
    n_batches = int(codes.max(initial=-1)) + 1 if n_batches is None else n_batches
    sizes = np.array([len(rows) for rows in groups]) / n_obs
    return result, weights, Moments(*(_by_batch(x, sizes, codes, n_batches) for x in (slopes, intercepts)))


def _within(block: slice, columns: slice) -> slice:
    """A block of features counted from the first of its section."""
    return slice(block.start - columns.start, block.stop - columns.start)


def _correlated(
    views: Sequence[View], of_groups: Sequence[Sequence[sp.csr_array]], blocks: Sequence[slice]
) -> np.ndarray:
    """Inner products of the standardised views, summed over groups of cells and blocks of features, ``(n_views, n_views)``."""
    fits = [_Fit(views, of_group) for of_group in of_groups]
    return np.asarray(np.sum([np.sum(in_blocks(fit.correlate, blocks), axis=0) for fit in fits], axis=0))


def _by_batch(of_groups: np.ndarray, sizes: np.ndarray, codes: np.ndarray, n_batches: int) -> np.ndarray:
    """One entry for each batch number and a last one, the mean over cells, which also serves for batches without cells."""
    mean = np.einsum("g...,g->...", of_groups, sizes, dtype=np.float64).astype(np.float32)
    result = np.repeat(mean[None], n_batches + 1, axis=0)
    result[codes] = of_groups[: len(codes)]
    return result


class _Fit:
    """Fitted views of one group of cells, block of features by block of features.

    Standardising takes off what an offset adds to a feature, so :attr:`View.column_offset` plays no part. Views that share
    operator and values share their product.
    """

    def __init__(self, views: Sequence[View], operators: Sequence[sp.csr_array]) -> None:
        self.views = views
        self.operators = operators
        offsets = [operator @ view.row_offset for view, operator in zip(views, operators, strict=True)]
        self.offset_means = [offset.mean() for offset in offsets]
        self.offsets = [offset - offset.mean() if offset.any() else None for offset in offsets]

    def correlate(self, columns: slice) -> np.ndarray:
        """Inner products of the standardised views, ``(n_views, n_views)``."""
        moved, inverse, _ = self._moved(columns)
        gram = np.empty((len(moved), len(moved)))
        for i, j in itertools.combinations_with_replacement(range(len(moved)), 2):
            gram[i, j] = gram[j, i] = np.einsum("ij,ij->j", moved[i], moved[j]) @ (inverse[i] * inverse[j])
        return gram

    def combine(
        self, columns: slice, weights: np.ndarray, *, keep: bool
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """The weighted sum of the standardised views, standardised, if it is kept; slopes and intercepts of :class:`Moments`."""
        moved, inverse, means = self._moved(columns)
        result = np.zeros_like(moved[0])
        factors = weights.astype(np.float32)[:, None] * inverse
        for x, factor in zip(moved, factors, strict=True):
            result += x * factor
        values, mean, scale = _standardised(result)
        slopes = factors * scale
        return values if keep else None, slopes, -np.einsum("ij,ij->j", slopes, means) - mean * scale

    def _moved(self, columns: slice) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """The views moved by their operators and centred, one over each feature's deviation, 0 where there is none; means."""
        values = {id(values): values[:, columns].toarray() for values in (view.values for view in self.views)}
        products: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        moved = []
        inverse = np.zeros((len(self.views), columns.stop - columns.start), dtype=np.float32)
        means = np.empty(inverse.shape)
        for i, (view, operator, offset) in enumerate(zip(self.views, self.operators, self.offsets, strict=True)):
            key = id(operator), id(view.values)
            if key not in products:
                x = operator @ values[id(view.values)]
                products[key] = x, x.mean(axis=0)
                x -= products[key][1]
            x, mean = products[key]
            means[i] = view.scale * mean + self.offset_means[i]
            if view.scale != 1 or offset is not None:
                x = np.float32(view.scale) * x
            if offset is not None:
                x += offset[:, None]
            moved.append(x)
            # sums of equal numbers in another order differ by their rounding
            smallest = np.maximum(_SMALLEST_DEVIATION, _ROUNDING * np.abs(view.scale * mean))
            deviation = np.sqrt(np.einsum("ij,ij->j", x, x) / len(x))
            np.divide(1, deviation, out=inverse[i], where=deviation > smallest)
        return moved, inverse, means


def standardise(x: np.ndarray, batches: np.ndarray | None = None) -> np.ndarray:
    """Each feature at mean 0 and variance 1, over all cells or within each batch; features that do not vary become 0."""
    if batches is not None:
        result = np.empty(x.shape, dtype=np.float32)
        for code in np.unique(batches):
            result[batches == code] = standardise(x[batches == code])
        return result
    return _standardised(x)[0]


def _standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features, their means, and one over their deviations, 0 where there is none."""
    mean = x.mean(axis=0)
    centered = x - mean
    deviation = np.sqrt(np.einsum("ij,ij->j", centered, centered) / len(x))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > _SMALLEST_DEVIATION)
    return np.multiply(centered, inverse, out=centered).astype(np.float32, copy=False), mean, inverse
