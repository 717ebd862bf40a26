"""Any storage of a count matrix, read as CSR: one entry a place, in order, none that is zero. The user's arrays stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def read_csr(matrix: Any, *, where: str) -> sp.csr_array:
    """A canonical CSR matrix of the values that ``matrix``, which is in memory, holds, in its own number format or a wider one.

    Its arrays are those of ``matrix`` where nothing had to be changed, so it must not be written to.

    Raises
    ------
    TypeError
        If the values are no real numbers.
    ValueError
        If a sparse matrix points beyond its columns, which would end Python elsewhere.
    """
    if not sp.issparse(matrix):
        return _of_dense(matrix, where)
    dtype = _checked_dtype(matrix.dtype, where)
    if matrix.format != "csr":
        # converting may add up repeated entries, which small integers can't hold
        matrix = matrix.astype(_wide(dtype)).tocsr()
    # a new object around the same arrays: scipy notes and mends the order of entries in the object that it is asked about
    stored = int(matrix.indptr[-1])
    data, indices, indptr = (_native(part) for part in (matrix.data[:stored], matrix.indices[:stored], matrix.indptr))
    _check_pointers(indices, indptr, matrix.shape, where)
    counts = sp.csr_array((data, indices, indptr), shape=matrix.shape)
    if not counts.has_canonical_format:
        counts = sp.csr_array((data.astype(_wide(dtype)), indices.copy(), indptr.copy()), shape=matrix.shape)
        counts.sum_duplicates()
    if np.count_nonzero(counts.data) < counts.nnz:
        counts = counts.copy()
        counts.eliminate_zeros()
    return counts


def _of_dense(matrix: Any, where: str) -> sp.csr_array:
    if np.ma.isMaskedArray(matrix) and np.ma.is_masked(matrix):
        raise ValueError(
            f"{where} is a masked array with masked values; raw counts are needed for every cell and feature."
        )
    values = np.asarray(matrix)
    dtype = _checked_dtype(values.dtype, where)
    if dtype.itemsize < 4 or dtype.itemsize > 8 or not dtype.isnative:
        values = values.astype(_wide(dtype))
    return sp.csr_array(values)


def _checked_dtype(dtype: Any, where: str) -> np.dtype[Any]:
    dtype = np.dtype(dtype)
    if dtype.kind not in "buif":
        target = where.removeprefix("mdata")
        raise TypeError(
            f"{where} holds values of type {dtype}, not numbers. Convert them with mdata{target} = mdata{target}.astype('float32')."
        )
    return dtype


def _wide(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """A floating-point format that holds the values, and sums of them, as exactly as can be."""
    return np.float32 if dtype == np.float32 else np.float64


def _native(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.isnative and values.dtype.itemsize <= 8:
        return values
    return values.astype(_wide(values.dtype) if values.dtype.kind == "f" else values.dtype.newbyteorder("="))


def _check_pointers(indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int], where: str) -> None:
    inside = not indices.size or (indices.min() >= 0 and indices.max() < shape[1])
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or not inside:
        raise ValueError(
            f"{where} is a broken sparse matrix: its indices point outside its {shape[0]} cells and {shape[1]} features. "
            "Read the counts again."
        )
