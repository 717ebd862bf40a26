"""Counts in as few bytes as hold them, for reading rows at random places."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.scratch import entry_blocks


class PackedCounts:
    """A copy of counts in memory, three or four bytes each in place of eight, that gives rows.

    Rows at random places of a scratch file would bring most of it into memory, since the system maps many rows at a time.

    Parameters
    ----------
    counts
        Whole numbers of at least 0, canonical CSR, ``(n_obs, n_vars)``.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from scmag_muon.manifold.packed import PackedCounts
    >>> PackedCounts(sp.csr_array(np.array([[0, 3], [500, 0]])))[[1, 0, 1]].toarray()
    array([[500.,   0.],
           [  0.,   3.],
           [500.,   0.]], dtype=float32)
    """

    dtype = np.dtype(np.float32)

    def __init__(self, counts: sp.csr_array) -> None:
        self.shape = counts.shape
        self.starts = counts.indptr.astype(np.int64)
        self.columns = _packed(counts, counts.indices, max(counts.shape[1] - 1, 0))
        largest = max((int(counts.data[part].max(initial=0)) for _, part in entry_blocks(counts.indptr)), default=0)
        self.values = _packed(counts, counts.data, largest)

    def __getitem__(self, rows: Any) -> sp.csr_array:
        """Rows by their numbers, in any order, CSR, float32."""
        rows = np.asarray(rows, dtype=np.int64)
        sizes = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.repeat(self.starts[rows] - starts[:-1], sizes) + np.arange(starts[-1])
        parts = self.values[entries].astype(np.float32), self.columns[entries].astype(np.int32), starts
        return sp.csr_array(parts, shape=(len(rows), self.shape[1]))


def _packed(counts: sp.csr_array, array: np.ndarray, largest: int) -> np.ndarray:
    result = np.empty(len(array), dtype=np.min_scalar_type(largest))
    for _, part in entry_blocks(counts.indptr):
        result[part] = array[part]
    return result
