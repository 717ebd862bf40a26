"""Fused fitted rows by request: a few rows of the operators times rows of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.sparse as sp
from numba import njit

from scmag_muon.manifold.modality import VIEWS, FittedModality
from scmag_muon.manifold.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from scmag_muon.manifold.kernels import Kernel

_BLOCK_ROWS = 64  # few enough to stay in the cache

Counts: TypeAlias = "sp.csr_array | Callable[[np.ndarray], sp.csr_array]"
"""Counts of the cells that have a modality, or what gives them for numbers of such cells in rising order."""


def fused_rows(
    modality: FittedModality, operators: Mapping[Kernel, sp.csr_array], counts: Counts, codes: np.ndarray | None
) -> np.ndarray:
    """Rows as in :meth:`scmag_muon.manifold.fit.ManifoldFit.fitted`."""
    needed = np.unique(np.concatenate([operator.indices for operator in operators.values()]))
    own = np.searchsorted(modality.cells, needed)
    views = modality.recipe.row_views(counts(own) if callable(counts) else counts[own])
    places = {kernel: _among(needed, operator) for kernel, operator in operators.items()}
    # pairs of transform and kernel that take the same mean share it
    terms: dict[tuple[Kernel, int], tuple[sp.csr_array, np.ndarray]] = {}
    offsets = []
    for i, (kind, kernel) in enumerate(VIEWS.values()):
        view, slopes = views[kind], modality.moments.slopes[:, i]
        values, of_others = terms.get((kernel, id(view.values)), (view.values.tocsr(), 0.0))
        terms[kernel, id(view.values)] = values, of_others + np.float32(view.scale) * slopes
        if view.row_offset.any():
            offsets.append((places[kernel] @ view.row_offset, slopes))
    n_rows, n_vars = next(iter(places.values())).shape[0], modality.moments.intercepts.shape[1]
    codes = np.full(n_rows, -1) if codes is None else codes
    result = np.empty((n_rows, n_vars), dtype=np.float32)

    def work(block: tuple[int, np.ndarray]) -> None:
        code, rows = block
        found = np.tile(modality.moments.intercepts[code], (len(rows), 1))
        for (kernel, _), (values, slopes) in terms.items():
            mean = np.zeros_like(found)
            operator = places[kernel][rows]
            _add_rows(
                operator.indptr, operator.indices, operator.data, values.indptr, values.indices, values.data, mean
            )
            mean *= slopes[code]
            found += mean
        for of_rows, slopes in offsets:
            found += np.multiply.outer(of_rows[rows], slopes[code])
        result[rows] = found

    of_codes = [(int(code), np.flatnonzero(codes == code)) for code in np.unique(codes)]
    in_threads(
        work,
        [
            (code, rows[start : start + _BLOCK_ROWS])
            for code, rows in of_codes
            for start in range(0, len(rows), _BLOCK_ROWS)
        ],
    )
    return result


def _among(needed: np.ndarray, operator: sp.csr_array) -> sp.csr_array:
    """The operator with the columns alone that are needed."""
    columns = np.searchsorted(needed, operator.indices)
    return sp.csr_array((operator.data, columns, operator.indptr), shape=(operator.shape[0], len(needed)))


@njit(nogil=True, cache=True)
def _add_rows(
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    weights: NDArray[np.float32],
    of_row: NDArray[np.int32],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    result: NDArray[np.float32],
) -> None:
    """Add the product of two sparse matrices to a dense one; SciPy's, which is sparse, takes several times as long."""
    for i in range(len(starts) - 1):
        for j in range(starts[i], starts[i + 1]):
            for k in range(of_row[rows[j]], of_row[rows[j] + 1]):
                result[i, columns[k]] += weights[j] * values[k]
