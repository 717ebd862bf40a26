"""Fused fitted data of all reference cells as a matrix that is not there: its rows are computed when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numba import njit

from scmag_muon.manifold.modality import VIEWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.manifold.kernels import Kernel
    from scmag_muon.manifold.modality import Recipe
    from scmag_muon.manifold.transforms import Transform

_ENTRIES_AT_A_TIME = 2**22


class FittedRows:
    """Rows as of :meth:`~scmag_muon.manifold.fit.ManifoldFit.rows`, for training, which asks for all of them again and again.

    The counts are transformed once. Transformed values lie where the counts do, so that they are kept as two numbers for each
    count that is not zero; nothing dense of cells by features is ever there.

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
        tables = fit.neighborhoods[name]
        self._tables: dict[Kernel, np.ndarray] = {
            kernel: np.ascontiguousarray(table if everywhere else number[table], dtype=np.int32)
            for kernel, table in tables.items()
        }
        self._codes = fit.codes if fit.batches else None
        self._step = fit.step
        self._moments = modality.moments
        self._starts = counts.indptr.astype(np.int64, copy=False)
        self._columns = counts.indices.astype(np.int32, copy=False)
        self._values, self._same, self._scales, self._offsets = _transformed(modality.recipe, counts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, cells: Any) -> np.ndarray:
        if isinstance(cells, slice):
            cells = np.arange(*cells.indices(len(self)))
        cells = np.asarray(cells)
        cells = np.flatnonzero(cells) if cells.dtype == bool else cells
        codes = np.full(len(cells), -1) if self._codes is None else self._codes[cells]
        tables = {kernel: table[cells] for kernel, table in self._tables.items()}
        result = self._moments.intercepts[codes]
        means: dict[tuple[Kernel, Transform], np.ndarray] = {}
        for i, (kind, kernel) in enumerate(VIEWS.values()):
            key = kernel, self._same[kind]
            if key not in means:
                means[key] = self._mean(tables[kernel], self._values[key[1]])
            moved = self._scales[kind] * means[key]
            if kind in self._offsets:
                moved += self._weighted(self._offsets[kind][tables[kernel]])[:, None]
            moved *= self._moments.slopes[codes, i]
            result += moved
        return result

    def _mean(self, table: np.ndarray, values: np.ndarray) -> np.ndarray:
        result = np.zeros((len(table), self.shape[1]), dtype=np.float32)
        share = np.float32(self._step / table.shape[1])
        _add_rows(table, share, np.float32(1 - self._step), self._starts, self._columns, values, result)
        return result

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
            self._offsets,
            self._moments.slopes,
            self._moments.intercepts,
        ]


def _transformed(
    recipe: Recipe, counts: sp.csr_array
) -> tuple[
    dict[Transform, np.ndarray], dict[Transform, Transform], dict[Transform, np.float32], dict[Transform, np.ndarray]
]:
    """Transformed values in the order of the counts; which transforms share them; their scales; offsets of cells that have any."""
    values: dict[Transform, np.ndarray] = {}
    same: dict[Transform, Transform] = {}
    scales: dict[Transform, np.float32] = {}
    offsets: dict[Transform, np.ndarray] = {}
    starts = counts.indptr
    at_once = max(1, _ENTRIES_AT_A_TIME // max(1, counts.nnz // max(1, counts.shape[0])))
    for begin in range(0, counts.shape[0], at_once):
        rows = slice(begin, min(begin + at_once, counts.shape[0]))
        entries = slice(starts[rows.start], starts[rows.stop])
        views = recipe.views(sp.csr_array(counts[rows]))
        first: dict[int, Transform] = {}
        for kind, view in views.items():
            scales[kind] = np.float32(view.scale)
            if view.row_offset.any():
                offsets.setdefault(kind, np.zeros(counts.shape[0], dtype=np.float32))[rows] = view.row_offset
            same[kind] = first.setdefault(id(view.values), kind)
            if same[kind] == kind:
                values.setdefault(kind, np.empty(counts.nnz, dtype=np.float32))[entries] = view.values.tocsr().data
    return values, same, scales, offsets


@njit(nogil=True, cache=True)
def _add_rows(
    table: NDArray[np.int32],
    share: np.float32,
    of_first: np.float32,
    starts: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    result: NDArray[np.float32],
) -> None:
    """Add the sparse rows that ``table`` lists, times ``share``, and the first of each times ``of_first`` in addition.

    SciPy's product of two sparse matrices takes ten times as long.
    """
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            weight = share + of_first if j == 0 else share
            for k in range(starts[table[i, j]], starts[table[i, j] + 1]):
                result[i, columns[k]] += weight * values[k]
