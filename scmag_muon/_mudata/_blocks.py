"""Matrices that lie in a file, read by blocks of rows, so that they are never there whole."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.abc import CSRDataset

if TYPE_CHECKING:
    from collections.abc import Iterator

_VALUES_AT_A_TIME = 2**26


def in_file(matrix: Any) -> bool:
    """Whether a matrix lies in a file from which its rows can be read by themselves."""
    zarr = sys.modules.get("zarr")  # nobody who has not loaded it has one of its arrays
    return isinstance(matrix, (CSRDataset, h5py.Dataset)) or (zarr is not None and isinstance(matrix, zarr.Array))


def row_blocks(matrix: Any) -> list[slice]:
    """The rows of a matrix in a file in blocks that can be read by themselves; of any other matrix all at once."""
    n_rows, n_columns = matrix.shape
    if not in_file(matrix):
        return [slice(0, n_rows)]
    at_once = max(1, _VALUES_AT_A_TIME // max(1, n_columns))
    return [slice(start, min(start + at_once, n_rows)) for start in range(0, max(n_rows, 1), at_once)]


def read_rows(matrix: Any, rows: slice, *, where: str) -> Any:
    """The rows in memory; a matrix that is there already as it is."""
    with readable(matrix, where):
        if in_file(matrix):
            return matrix[rows]
        for method in ("to_memory", "compute"):
            if hasattr(matrix, method):
                matrix = getattr(matrix, method)()
        return matrix


@contextlib.contextmanager
def readable(matrix: Any, where: str) -> Iterator[None]:
    """Name slot and file where a file can't be read: h5py names neither, and has four types of errors for it."""
    if isinstance(matrix, np.ndarray) or sp.issparse(matrix):
        yield
        return
    file = ""
    with contextlib.suppress(Exception):
        stored = getattr(matrix, "group", matrix)
        file = f" from {stored.file.filename if hasattr(stored, 'file') else stored.store_path}"
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise OSError(
            f"{where} can't be read{file} ({' '.join(str(error).split())}). The file is damaged, was cut short, or has been "
            "closed: open it again, or write it anew from where it came from."
        ) from error


def only_features(counts: sp.csr_array, features: np.ndarray) -> sp.csr_array:
    """The matrix with its entries in the features that ``features`` chooses alone, of the same shape."""
    keep = features[counts.indices]
    indptr = np.concatenate([[0], np.cumsum(keep)])[counts.indptr]
    return sp.csr_array((counts.data[keep], counts.indices[keep], indptr), shape=counts.shape)
