"""The three transforms of the counts (paper, eq. 1-3), as sparse matrices with offsets.

Nine counts in ten are zero, and each transform sends all zeros of a row or column to one value. A :class:`View` keeps the
departures from that value only, so that nothing dense of the size of the data is ever held. Views of the same counts share
the places of their entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from scmag_muon.manifold.threads import product, row_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

Transform = Literal["log", "zscore", "clr", "scaled"]

Z_CLIP = 10.0
_ENTRIES_AT_A_TIME = 2**22
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

    def centered(self) -> LinearOperator:
        """The view with each feature's mean taken off, as an operator that is never made dense."""
        n_obs, n_vars = self.shape
        rows = self.row_offset - self.row_offset.mean()
        means = np.asarray(self.values.mean(axis=0)).ravel()
        scale = np.float32(self.scale)
        values = row_parts(self.values.tocsr())
        transposed = row_parts(self.values.T.tocsr())

        def matmat(x: np.ndarray) -> np.ndarray:
            return scale * (product(values, x) - means @ x) + np.multiply.outer(rows, x.sum(axis=0))

        def rmatmat(x: np.ndarray) -> np.ndarray:
            total = x.sum(axis=0)
            shift = rows @ x
            return scale * (product(transposed, x) - np.multiply.outer(means, total)) + shift

        return LinearOperator(
            (n_obs, n_vars), matvec=matmat, rmatvec=rmatmat, matmat=matmat, rmatmat=rmatmat, dtype=np.float32
        )


@dataclass(frozen=True)
class Standards:
    """Mean and standard deviation of each feature, 0 where it does not vary: what further cells are scored by, ``(n_vars,)``."""

    mean: np.ndarray
    deviation: np.ndarray


def median_total(counts: sp.csr_array) -> float:
    """Median library size of the cells that are not empty."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return float(np.median(totals[totals > 0]))


def scale_to_median(counts: sp.csr_array, median: float | None = None) -> sp.csr_array:
    """Counts of each cell scaled to the median library size of the non-empty cells, or to the one that is given."""
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    median = np.median(totals[totals > 0]) if median is None else median
    factors = np.divide(median, totals, out=np.zeros_like(totals), where=totals > 0)
    return _with_values(counts, counts.data * np.repeat(factors.astype(np.float32), np.diff(counts.indptr)))


def _with_values(like: sp.sparray, values: np.ndarray) -> sp.sparray:
    """A matrix with entries where ``like`` has them; the places are not copied."""
    return type(like)((values, like.indices, like.indptr), shape=like.shape)


def column_blocks(x: sp.csc_array) -> Iterator[tuple[slice, slice]]:
    """Columns with so many entries at most, or one column, and the entries: what is computed of them in double precision is small."""
    start = 0
    while start < x.shape[1]:
        most = int(x.indptr[start]) + _ENTRIES_AT_A_TIME
        stop = max(int(np.searchsorted(x.indptr, most, side="right")) - 1, start + 1)
        yield slice(start, stop), slice(int(x.indptr[start]), int(x.indptr[stop]))
        start = stop


def log2p1(x: sp.sparray) -> View:
    r"""Logarithm, :math:`y = \log_2(x + 1)` (eq. 1)."""
    columns = sp.csc_array(x, dtype=np.float32)
    values = _with_values(columns, np.log2(columns.data + 1, dtype=np.float32))
    return View(values, np.zeros(x.shape[0], np.float32), np.zeros(x.shape[1], np.float32))


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


def zscore(x: sp.sparray, clip: float = Z_CLIP, *, standards: Standards | None = None) -> View:
    r"""Standard score of each feature, :math:`y = (x - \mu) / \sigma`, clipped at ``±clip`` (eq. 2).

    Features that do not vary become 0. ``standards`` are those of other cells, by which these are scored.
    """
    values = sp.csc_array(x)
    standards = feature_standards(values) if standards is None else standards
    inverse, of_zero = _inverse_and_zero(standards, clip)
    scores = np.empty(values.nnz, dtype=np.float32)
    for columns, entries in column_blocks(values):
        sizes = np.diff(values.indptr[columns.start : columns.stop + 1])
        standard = values.data[entries].astype(np.float64)
        standard -= np.repeat(standards.mean[columns], sizes)
        standard *= np.repeat(inverse[columns], sizes)
        np.clip(standard, -clip, clip, out=standard)
        standard -= np.repeat(of_zero[columns], sizes)
        scores[entries] = standard
    return View(_with_values(values, scores), np.zeros(x.shape[0], np.float32), of_zero.astype(np.float32))


def _inverse_and_zero(standards: Standards, clip: float) -> tuple[np.ndarray, np.ndarray]:
    """One over the deviation of each feature, 0 where it does not vary, and the score of a count of 0."""
    deviation = standards.deviation
    inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    return inverse, np.clip(-standards.mean * inverse, -clip, clip)


def row_transforms(x: sp.csr_array, standards: Standards) -> dict[Transform, View]:
    """What :func:`transforms` gives, up to rounding, as CSR: quicker for a few rows, of which no column is asked for."""
    log = View(
        _with_values(x, np.log2(x.data + 1, dtype=np.float32)),
        np.zeros(x.shape[0], np.float32),
        np.zeros(x.shape[1], np.float32),
    )
    inverse, of_zero = _inverse_and_zero(standards, Z_CLIP)
    scores = x.data.astype(np.float64)
    scores -= standards.mean[x.indices]
    scores *= inverse[x.indices]
    np.clip(scores, -Z_CLIP, Z_CLIP, out=scores)
    scores -= of_zero[x.indices]
    zscores = View(_with_values(x, scores.astype(np.float32)), log.row_offset, of_zero.astype(np.float32))
    return {"log": log, "zscore": zscores, "clr": _log_ratio(log)}


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
    """What :func:`scaled` makes of logarithms that are there already (:func:`log2p1`)."""
    standards = feature_standards(log.values) if standards is None else standards
    view = zscore(log.values, standards=standards)
    keep = np.power(standards.deviation, 1 - POWER, dtype=np.float32)
    view.values.data *= np.repeat(keep, np.diff(view.values.indptr))
    return View(view.values, view.row_offset, view.column_offset * keep)


def _log_ratio(log: View) -> View:
    scale = np.log(2.0)
    mean = scale * np.asarray(log.values.sum(axis=1), dtype=np.float64).ravel() / log.shape[1]
    return View(log.values, -mean.astype(np.float32), log.column_offset, scale)


def transform(x: sp.csr_array, kind: Transform) -> View:
    """One of the transforms by name."""
    return {"log": log2p1, "zscore": zscore, "clr": clr, "scaled": scaled}[kind](x)


def transforms(x: sp.csr_array, *, standards: Standards | None = None) -> dict[Transform, View]:
    """The paper's three; the log and the log-ratio share their values, so that what is computed from these serves for both."""
    x = sp.csc_array(x)
    log = log2p1(x)
    return {"log": log, "zscore": zscore(x, standards=standards), "clr": _log_ratio(log)}
