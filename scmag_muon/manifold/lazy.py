"""Fused fitted data of all reference cells as a matrix that is not there: its rows are computed when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from scmag_muon.manifold.modality import VIEWS
from scmag_muon.manifold.packed import PackedCounts
from scmag_muon.manifold.scratch import is_mapped
from scmag_muon.manifold.threads import in_threads, n_threads
from scmag_muon.manifold.transforms import LOG_2, Z_CLIP, mean_logs

if TYPE_CHECKING:
    import scipy.sparse as sp
    from numpy.typing import NDArray

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.manifold.kernels import Kernel


class FittedRows:
    """Rows as of :meth:`~scmag_muon.manifold.fit.ManifoldFit.rows`, for training, which asks for all of them again and again.

    Nothing of the size of the counts is there beside them: they are transformed as they are read. Of counts in a scratch file a copy of
    two or three bytes each is held in memory.

    Parameters
    ----------
    fit, name
        The fit, and the modality.
    counts
        Raw counts of the cells that have the modality, in their order, and of its features, canonical CSR, ``(n_own, n_vars)``.

    Examples
    --------
    ``FittedRows(fit, "rna", counts)[[5, 0, 5]]`` has shape ``(3, n_vars)``, float32. A cell that lacks the modality gets the mean of
    its neighbourhood.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, fit: ManifoldFit, name: str, counts: sp.csr_array) -> None:
        modality = fit.modality(name)
        self.shape = (fit.n_obs, counts.shape[1])
        number = np.zeros(fit.n_obs, dtype=np.int32)
        number[modality.cells] = np.arange(len(modality.cells))
        everywhere = len(modality.cells) == fit.n_obs
        self._tables: dict[Kernel, np.ndarray] = {
            kernel: np.ascontiguousarray(table if everywhere else number[table], dtype=np.int32)
            for kernel, table in fit.neighborhoods[name].items()
        }
        self._codes = fit.codes if fit.batches else None
        self._step = fit.step
        self._intercepts, slopes = modality.moments.intercepts, modality.moments.slopes
        # slopes of the logarithms, of the scores, and of each cell's mean logarithm
        self._slopes = {kernel: np.zeros((3, *self._intercepts.shape), np.float32) for kernel in self._tables}
        for i, (kind, kernel) in enumerate(VIEWS.values()):
            if kind == "zscore":
                self._slopes[kernel][1] += slopes[:, i]
            else:
                self._slopes[kernel][0] += np.float32(LOG_2 if kind == "clr" else 1) * slopes[:, i]
            if kind == "clr":
                self._slopes[kernel][2] += slopes[:, i]
        self.packed = PackedCounts(counts) if is_mapped(counts.data) else None
        if self.packed is None:
            self._starts = counts.indptr.astype(np.int64, copy=False)
            self._columns, self._values = counts.indices.astype(np.int32, copy=False), counts.data
        else:
            self._starts, self._columns, self._values = self.packed.starts, self.packed.gaps, self.packed.values
        self._factors = modality.recipe.size_factors(counts)
        self._mean_logs = mean_logs(counts, self._factors)
        standards = modality.recipe.standards
        self._mean = standards.mean
        self._inverse, self._of_zero = standards.inverse_and_zero(Z_CLIP)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, cells: Any) -> np.ndarray:
        if isinstance(cells, slice):
            cells = np.arange(*cells.indices(len(self)))
        cells = np.asarray(cells)
        cells = np.flatnonzero(cells) if cells.dtype == bool else cells
        codes = np.full(len(cells), -1) if self._codes is None else self._codes[cells]
        result = self._intercepts[codes]

        def work(rows: np.ndarray) -> None:
            if len(rows):
                self._add(cells[rows], codes[rows], result[rows[0] : rows[-1] + 1])

        in_threads(work, np.array_split(np.arange(len(cells)), n_threads()))
        return result

    def _add(self, cells: np.ndarray, codes: np.ndarray, result: np.ndarray) -> None:
        for kernel, table in self._tables.items():
            of_logs, of_scores, of_means = self._slopes[kernel]
            if of_means.any():
                result -= self._weighted(self._mean_logs[table[cells]])[:, None] * of_means[codes]
            _add_rows(
                table[cells],
                codes,
                np.float32(self._step / table.shape[1]),
                np.float32(1 - self._step),
                self._starts,
                self._columns,
                self.packed is not None,
                self._values,
                self._factors,
                of_logs,
                of_scores,
                self._mean,
                self._inverse,
                self._of_zero,
                result,
            )

    def _weighted(self, of_neighbors: np.ndarray) -> np.ndarray:
        mean = of_neighbors.mean(axis=1, dtype=np.float64)
        return (self._step * mean + (1 - self._step) * of_neighbors[:, 0]).astype(np.float32)

    def parts(self) -> list[Any]:
        """Arrays and numbers on which all rows depend, for a checksum."""
        return [
            self._tables,
            self._step,
            self._codes,
            self._starts,
            self._columns,
            self._values,
            self._factors,
            self._slopes,
            self._intercepts,
            self._mean,
            self._inverse,
        ]


@njit(nogil=True, cache=True)
def _add_rows(
    table: NDArray[np.int32],
    codes: NDArray[np.int64],
    share: np.float32,
    of_first: np.float32,
    starts: NDArray[np.int64],
    columns: NDArray[Any],
    are_gaps: bool,  # noqa: FBT001
    counts: NDArray[Any],
    factors: NDArray[np.float32],
    of_logs: NDArray[np.float32],
    of_scores: NDArray[np.float32],
    mean: NDArray[np.float64],
    inverse: NDArray[np.float64],
    of_zero: NDArray[np.float64],
    result: NDArray[np.float32],
) -> None:
    """Add logarithms and scores of the rows that ``table`` lists, times their slopes and ``share``; the first of each counts more.

    SciPy's product of two sparse matrices takes ten times as long.
    """
    one = np.float32(1)
    for i in range(table.shape[0]):
        code = codes[i]
        for j in range(table.shape[1]):
            row = table[i, j]
            weight = share + of_first if j == 0 else share
            column = 0
            for k in range(starts[row], starts[row + 1]):
                column = column + columns[k] if are_gaps else columns[k]
                if counts[k] == 0:  # it bridges a gap
                    continue
                sized = np.float32(counts[k]) * factors[row]
                score = (sized - mean[column]) * inverse[column]
                score = min(max(score, -Z_CLIP), Z_CLIP) - of_zero[column]
                found = np.log2(sized + one) * of_logs[code, column]
                found += np.float32(score) * of_scores[code, column]
                result[i, column] += weight * found
