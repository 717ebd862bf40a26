"""The three transforms of the counts (paper, eq. 1-3), as sparse matrices with offsets.

Nine counts in ten are zero, and each transform sends all zeros of a row or column to one value. A :class:`View` keeps the
departures from that value only, so that nothing dense of the size of the data is ever held. Views of the same counts share
the places of their entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from scmag_muon.manifold.scratch import Gathered, entry_blocks, rows_between
from scmag_muon.manifold.threads import product, row_parts, transposed_product

if TYPE_CHECKING:
    from collections.abc import Iterator

Transform = Literal["log", "zscore", "clr", "scaled"]

Z_CLIP = 10.0
LOG_2 = float(np.log(2.0))
POWER = 0.75
"""Of its deviation, by which a feature is divided so that neither abundant genes nor the noise of rare ones decide."""


@dataclass(frozen=True)
class View:
    """Transformed data: entry (i, j) is ``scale * values[i, j] + row_offset[i] + column_offset[j]``."""

    values: sp.csc_array | sp.csr_array
    row_offset: np.ndarray
    column_offset: np.ndarray
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, features."""
        return self.values.shape

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Dense float32 block of the features ``start`` to ``stop``."""
        block = self.values[:, start:stop].toarray()
        block *= np.float32(self.scale)
        block += self.row_offset[:, None]
        block += self.column_offset[None, start:stop]
        return block

    def toarray(self) -> np.ndarray:
        """All of the transformed data, dense, shape ``(n_obs, n_vars)``."""
        return self.columns(0, self.shape[1])

    def value_means(self) -> np.ndarray:
        """Mean of each feature's values, without scale and offsets, float64, ``(n_vars,)``."""
        if not isinstance(self.values, sp.csr_array):
            return np.asarray(self.values.mean(axis=0, dtype=np.float64)).ravel()
        sums = np.zeros(self.shape[1])  # SciPy would copy all of the matrix in double precision
        for _, entries in row_blocks(self.values):
            values, columns = self.values.data[entries], self.values.indices[entries]
            sums += np.bincount(columns, weights=values, minlength=self.shape[1])
        return sums / self.shape[0]

    def centered(self) -> LinearOperator:
        """The view with each feature's mean taken off, as an operator that is never made dense.

        Values by columns are copied to rows, since products are quicker so; values by rows are not copied to columns.
        """
        n_obs, n_vars = self.shape
        rows = self.row_offset - self.row_offset.mean()
        by_rows = isinstance(self.values, sp.csr_array)
        means = self.value_means().astype(np.float32) if by_rows else np.asarray(self.values.mean(axis=0)).ravel()
        scale = np.float32(self.scale)
        values = self.values.tocsr()
        transposed = None if by_rows else self.values.T
        parts, of_transposed = row_parts(values), [] if transposed is None else row_parts(transposed)

        def matmat(x: np.ndarray) -> np.ndarray:
            return scale * (product(values, parts, x) - means @ x) + np.multiply.outer(rows, x.sum(axis=0))

        def rmatmat(x: np.ndarray) -> np.ndarray:
            total = x.sum(axis=0)
            shift = rows @ x
            if transposed is None:
                found = transposed_product(values, parts, x)
            else:
                found = product(transposed, of_transposed, x)
            return scale * (found - np.multiply.outer(means, total)) + shift

        return LinearOperator(
            (n_obs, n_vars), matvec=matmat, rmatvec=rmatmat, matmat=matmat, rmatmat=rmatmat, dtype=np.float32
        )


@dataclass(frozen=True)
class Standards:
    """Mean and standard deviation of each feature, 0 where it does not vary: what further cells are scored by, ``(n_vars,)``."""

    mean: np.ndarray
    deviation: np.ndarray

    def inverse_and_zero(self, clip: float) -> tuple[np.ndarray, np.ndarray]:
        """One over the deviation of each feature, 0 where it does not vary, and the score of a zero."""
        inverse = np.divide(1.0, self.deviation, out=np.zeros_like(self.deviation), where=self.deviation > 0)
        return inverse, np.clip(-self.mean * inverse, -clip, clip)

    def of(self, columns: slice) -> Standards:
        """Those of some features."""
        return Standards(self.mean[columns], self.deviation[columns])


def median_total(counts: sp.csr_array) -> float:
    """Median library size of the cells that are not empty."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return float(np.median(totals[totals > 0]))


def scale_to_median(counts: sp.csr_array, median: float | None = None) -> sp.csr_array:
    """Counts of each cell scaled to the median library size of the non-empty cells, or to the one that is given."""
    return scale_cells(counts, size_factors(counts, median_total(counts) if median is None else median))


def scale_cells(counts: sp.csr_array, factors: np.ndarray) -> sp.csr_array:
    """Counts of each cell times its factor; the places of the entries are not copied."""
    return _with_values(counts, counts.data * np.repeat(factors, np.diff(counts.indptr)))


def size_factors(counts: sp.csr_array, median: float) -> np.ndarray:
    """By what the counts of each cell are multiplied to reach this library size, float32, ``(n_obs,)``; 0 for empty cells."""
    totals = np.empty(counts.shape[0])
    for rows, _ in row_blocks(counts):
        totals[rows] = rows_between(counts, rows.start, rows.stop).sum(axis=1)
    return np.divide(median, totals, out=np.zeros_like(totals), where=totals > 0).astype(np.float32)


def mean_logs(counts: sp.csr_array, factors: np.ndarray) -> np.ndarray:
    """Mean over features of the natural logarithm of 1 and each cell's counts times its factor, float32, ``(n_obs,)``."""
    means = np.empty(counts.shape[0], dtype=np.float32)
    for rows, entries in row_blocks(counts):
        sizes = np.diff(counts.indptr[rows.start : rows.stop + 1])
        of_row = np.repeat(np.arange(len(sizes)), sizes)
        logs = _logs(counts, factors, rows, entries)
        means[rows] = LOG_2 * np.bincount(of_row, weights=logs, minlength=len(sizes)) / counts.shape[1]
    return means


def log_rows(counts: sp.csr_array, factors: np.ndarray) -> View:
    """What :func:`log2p1` gives of each cell's counts times its factor, as CSR: of their size, the values alone are made."""
    logs = np.empty(counts.nnz, dtype=np.float32)
    for rows, entries in row_blocks(counts):
        logs[entries] = _logs(counts, factors, rows, entries)
    return View(_with_values(counts, logs), np.zeros(len(factors), np.float32), np.zeros(counts.shape[1], np.float32))


def _logs(counts: sp.csr_array, factors: np.ndarray, rows: slice, entries: slice) -> np.ndarray:
    sizes = np.diff(counts.indptr[rows.start : rows.stop + 1])
    return np.log2(counts.data[entries] * np.repeat(factors[rows], sizes) + 1, dtype=np.float32)


def row_blocks(x: sp.csr_array) -> Iterator[tuple[slice, slice]]:
    """Rows with so many entries at most, or one row, and the entries."""
    return entry_blocks(x.indptr)


def _with_values(like: sp.sparray, values: np.ndarray) -> sp.sparray:
    """A matrix with entries where ``like`` has them; the places are not copied."""
    return type(like)((values, like.indices, like.indptr), shape=like.shape)


def column_blocks(x: sp.csc_array) -> Iterator[tuple[slice, slice]]:
    """Columns with so many entries at most, or one column, and the entries."""
    return entry_blocks(x.indptr)


def log2p1(x: sp.sparray) -> View:
    r"""Logarithm, :math:`y = \log_2(x + 1)` (eq. 1)."""
    values = sp.csc_array(x, dtype=np.float32)
    logs = values.data + np.float32(1)
    np.log2(logs, out=logs)
    return View(_with_values(values, logs), np.zeros(x.shape[0], np.float32), np.zeros(x.shape[1], np.float32))


def feature_standards(x: sp.sparray) -> Standards:
    """Mean and deviation of each feature over all cells."""
    values = sp.csc_array(x)
    mean, square = np.empty(x.shape[1]), np.empty(x.shape[1])
    for columns, _ in column_blocks(values):
        block = values[:, columns].astype(np.float64)
        mean[columns] = block.mean(axis=0)
        square[columns] = _with_values(block, block.data**2).mean(axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return Standards(mean, np.where(deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-12), 0, deviation))


def zscore(
    x: sp.sparray,
    clip: float = Z_CLIP,
    *,
    standards: Standards | None = None,
    by_rows: bool = False,
    out: np.ndarray | None = None,
) -> View:
    r"""Standard score of each feature, :math:`y = (x - \mu) / \sigma`, clipped at ``±clip`` (eq. 2).

    Features that do not vary become 0. ``standards`` are those of other cells, by which these are scored.
    """
    values = x if by_rows else sp.csc_array(x)
    standards = feature_standards(values) if standards is None else standards
    inverse, of_zero = standards.inverse_and_zero(clip)
    scores = np.empty(values.nnz, dtype=np.float32) if out is None else out
    for block, entries in row_blocks(values) if by_rows else column_blocks(values):
        # what belongs to each entry's feature
        of = partial(np.take, indices=values.indices[entries]) if by_rows else partial(_repeated, values, block)
        standard = values.data[entries].astype(np.float64)
        standard -= of(standards.mean)
        standard *= of(inverse)
        np.clip(standard, -clip, clip, out=standard)
        standard -= of(of_zero)
        scores[entries] = standard
    return View(_with_values(values, scores), np.zeros(x.shape[0], np.float32), of_zero.astype(np.float32))


def _repeated(x: sp.csc_array, columns: slice, of_features: np.ndarray) -> np.ndarray:
    """What features have, once for each of their entries."""
    return np.repeat(of_features[columns], np.diff(x.indptr[columns.start : columns.stop + 1]))


def row_transforms(x: sp.csr_array, standards: Standards) -> dict[Transform, View]:
    """What :func:`transforms` gives, up to rounding, as CSR: for rows of which no column is asked for."""
    log = log_rows(x, np.ones(x.shape[0], dtype=np.float32))
    return {"log": log, "zscore": zscore(x, standards=standards, by_rows=True), "clr": _log_ratio(log)}


def clr(x: sp.csr_array) -> View:
    r"""Centred log-ratio of each cell with a pseudo-count of 1, :math:`y = \log(x + 1) - \overline{\log(x + 1)}` (eq. 3).

    The paper's geometric mean is 0 as soon as one count is 0; the pseudo-count is what makes the ratio defined.
    """
    return _log_ratio(log2p1(x))


def scaled(x: sp.csr_array) -> View:
    r"""Logarithms, each feature over its deviation to the power of ¾: :math:`y = (l - \mu) / \sigma^{3/4}, l = \log_2(x + 1)`.

    Between the logarithms, in which few and abundant genes decide, and their standard scores (``scanpy.pp.scale``), in which
    the noise of rare genes weighs as much as any type's markers; clipped at ±10 deviations.
    """
    return scale_features(log2p1(x))


def scale_features(log: View, *, standards: Standards | None = None) -> View:
    """What :func:`scaled` makes of logarithms that are there already: by rows, in their place."""
    standards = feature_standards(log.values) if standards is None else standards
    by_rows = isinstance(log.values, sp.csr_array)
    view = zscore(log.values, standards=standards, by_rows=by_rows, out=log.values.data if by_rows else None)
    keep = np.power(standards.deviation, 1 - POWER, dtype=np.float32)
    for block, entries in row_blocks(view.values) if by_rows else column_blocks(view.values):
        of = keep[view.values.indices[entries]] if by_rows else _repeated(view.values, block, keep)
        view.values.data[entries] *= of
    return View(view.values, view.row_offset, view.column_offset * keep)


def _log_ratio(log: View) -> View:
    mean = LOG_2 * np.asarray(log.values.sum(axis=1), dtype=np.float64).ravel() / log.shape[1]
    return View(log.values, -mean.astype(np.float32), log.column_offset, LOG_2)


def transform(x: sp.csr_array, kind: Transform) -> View:
    """One of the transforms by name."""
    return {"log": log2p1, "zscore": zscore, "clr": clr, "scaled": scaled}[kind](x)


def transform_rows(
    counts: sp.csr_array, kind: Transform, factors: np.ndarray, *, standards: Standards | None = None
) -> View:
    """What :func:`transform` gives of each cell's counts times its factor, as CSR: of their size, the values alone are made.

    ``standards`` are those of the logarithms by which ``"scaled"`` scores.
    """
    if kind == "scaled" and standards is None:
        standards = feature_standards(log_rows(counts, factors).values)
    values, of_rows, view = Gathered(np.float32), [np.empty(0, np.float32)], None
    for rows, _ in row_blocks(counts):
        view = _few_rows(rows_between(counts, rows.start, rows.stop), kind, factors[rows], standards)
        values.append(view.values.data)
        of_rows.append(view.row_offset)
    if view is None:
        return _few_rows(counts, kind, factors, standards)
    return View(_with_values(counts, values.array()), np.concatenate(of_rows), view.column_offset, view.scale)


def _few_rows(counts: sp.csr_array, kind: Transform, factors: np.ndarray, standards: Standards | None) -> View:
    log = log_rows(counts, factors)
    if kind == "log":
        return log
    if kind == "clr":
        return _log_ratio(log)
    if kind == "scaled":
        return scale_features(log, standards=standards)
    raise KeyError(kind)


def transforms(x: sp.csr_array, *, standards: Standards | None = None) -> dict[Transform, View]:
    """The paper's three; the log and the log-ratio share their values, so that what is computed from these serves for both."""
    x = sp.csc_array(x)
    log = log2p1(x)
    return {"log": log, "zscore": zscore(x, standards=standards), "clr": _log_ratio(log)}
