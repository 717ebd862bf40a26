"""Counts in as few bytes as hold them, for reading rows at random places."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.scratch import entry_blocks

_LARGEST_GAP = 255


class PackedCounts:
    """A copy of counts in memory, two or three bytes each in place of eight, that gives rows.

    Rows at random places of a scratch file would bring most of it into memory, since the system maps many rows at a time. In place
    of a column there is the number of columns from the entry before, in one byte. A gap that is larger is bridged by zeros.

    Parameters
    ----------
    counts
        Whole numbers above 0, canonical CSR, ``(n_obs, n_vars)``.

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
        self.starts = np.zeros(counts.shape[0] + 1, dtype=np.int64)
        largest = 0
        for rows, entries in entry_blocks(counts.indptr):
            bridged = np.concatenate([[0], np.cumsum(_steps(counts, rows, entries)[1])])
            ends = counts.indptr[rows.start + 1 : rows.stop + 1] - entries.start
            self.starts[rows.start + 1 : rows.stop + 1] = self.starts[rows.start] + bridged[ends]
            largest = max(largest, int(counts.data[entries].max(initial=0)))
        self.gaps = np.full(self.starts[-1], _LARGEST_GAP, dtype=np.uint8)
        self.values = np.zeros(self.starts[-1], dtype=np.min_scalar_type(largest))
        for rows, entries in entry_blocks(counts.indptr):
            gaps, n_steps = _steps(counts, rows, entries)
            last = self.starts[rows.start] + np.cumsum(n_steps) - 1
            self.gaps[last] = gaps - _LARGEST_GAP * (n_steps - 1)
            self.values[last] = counts.data[entries]

    def __getitem__(self, rows: Any) -> sp.csr_array:
        """Rows by their numbers, in any order, CSR, float32."""
        rows = np.asarray(rows, dtype=np.int64)
        sizes = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.repeat(self.starts[rows] - starts[:-1], sizes) + np.arange(starts[-1])
        reached = np.concatenate([[0], np.cumsum(self.gaps[entries], dtype=np.int64)])
        columns = reached[1:] - np.repeat(reached[starts[:-1]], sizes)
        values = self.values[entries]
        counted = values != 0
        starts = np.concatenate([[0], np.cumsum(counted)])[starts]
        parts = values[counted].astype(np.float32), columns[counted].astype(np.int32), starts
        return sp.csr_array(parts, shape=(len(rows), self.shape[1]))


def _steps(counts: sp.csr_array, rows: slice, entries: slice) -> tuple[np.ndarray, np.ndarray]:
    """Columns from the entry before, or from the first column, and how many steps these take."""
    columns = counts.indices[entries]
    gaps = np.diff(columns, prepend=columns[:1])
    starts = counts.indptr[rows] - entries.start
    first = starts[starts < counts.indptr[rows.start + 1 : rows.stop + 1] - entries.start]  # of rows that have any
    gaps[first] = columns[first]
    return gaps, np.maximum(gaps - 1, 0) // _LARGEST_GAP + 1
