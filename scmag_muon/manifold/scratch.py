"""Large arrays in a file without a name: they are read by mapping it, and what was read is soon let go of.

Counts of a million cells take gigabytes, and every step reads them from one end to the other. In a scratch file they are not part of the
memory that the process holds: what it has read counts as its own until the pages are let go of, which a thread does many times
a second. The system keeps them for as long as it has room.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import os
import tempfile
import threading
import time
import weakref
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)

MOST = 2**26
"""Entries up to which an array stays in memory."""

ENTRIES_AT_A_TIME = 2**22
_LET_GO_EVERY = 0.02


class Gathered:
    """An array that is made piece by piece: in memory, and from ``MOST`` entries on in a scratch file.

    Examples
    --------
    >>> import numpy as np
    >>> from scmag_muon.manifold.scratch import Gathered
    >>> values = Gathered(np.float32)
    >>> values.append(np.arange(2))
    >>> values.append(np.arange(3))
    >>> values.array()
    array([0., 1., 0., 1., 2.], dtype=float32)
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._pieces: list[np.ndarray] = []
        self._size = 0
        self._file: IO[bytes] | None = None
        self._may_spill = True

    def append(self, piece: np.ndarray) -> None:
        """Add a piece at the end."""
        self._pieces.append(np.ascontiguousarray(piece, dtype=self.dtype))
        self._size += len(piece)
        if self._size > MOST and self._may_spill:
            self._spill()

    def array(self) -> np.ndarray:
        """All pieces; of a file a view that can't be written to."""
        if self._file is None:
            return (
                self._pieces[0] if len(self._pieces) == 1 else np.concatenate([np.empty(0, self.dtype), *self._pieces])
            )
        self._file.flush()
        mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        if hasattr(mmap, "MADV_NOHUGEPAGE"):  # else a row may bring two megabytes with it
            mapping.madvise(mmap.MADV_NOHUGEPAGE)
        _let_go_of(mapping)
        return np.frombuffer(mapping, dtype=self.dtype)

    def _spill(self) -> None:
        """Write what is held; where that fails, keep all in memory."""
        held = self._size - sum(map(len, self._pieces))
        try:
            if self._file is None:
                # it is closed when it is mapped
                self._file = tempfile.TemporaryFile(dir=_folder())  # noqa: SIM115
            for piece in self._pieces:
                self._file.write(piece.data)
            self._file.flush()
        except OSError as error:
            logger.warning(
                "No scratch file for large counts in %s (%s): they stay in memory. Name a folder with room for them in the environment "
                "variable TMPDIR.",
                _folder(),
                error.strerror or error,
            )
            self._may_spill = False
            if self._file is not None:
                self._pieces.insert(0, self._written(held))
                self._file = None
        else:
            self._pieces = []

    def _written(self, n_entries: int) -> np.ndarray:
        assert self._file is not None
        file = self._file
        file.seek(0)
        found = np.frombuffer(file.read(n_entries * self.dtype.itemsize), dtype=self.dtype)
        with contextlib.suppress(OSError):  # what could not be written is tried once more on closing
            file.close()
        return found


def stacked(blocks: Iterable[sp.csr_array]) -> sp.csr_array:
    """Blocks of rows one below the other, their entries in scratch files where there are many; a single block as it is."""
    blocks = iter(blocks)
    first = next(blocks)
    second = next(blocks, None)
    if second is None:
        return first
    n_columns, blocks = first.shape[1], itertools.chain([first, second], blocks)
    del first, second  # else they would be there to the end
    values, columns, sizes = Gathered(np.float32), Gathered(np.int32), [np.zeros(1, dtype=np.int64)]
    for block in blocks:
        values.append(block.data)
        columns.append(block.indices)
        sizes.append(np.diff(block.indptr))
    starts = np.cumsum(np.concatenate(sizes))
    if starts[-1] <= np.iinfo(np.int32).max:  # SciPy brings places to the type of the starts, by copying them
        starts = starts.astype(np.int32)
    return sp.csr_array((values.array(), columns.array(), starts), shape=(len(starts) - 1, n_columns))


def only_columns(x: sp.csr_array, mask: np.ndarray) -> sp.csr_array:
    """The columns that ``mask`` chooses, itself where these are all; of a few rows at a time where there are many entries."""
    if mask.all():
        return x
    if x.nnz <= MOST:
        return sp.csr_array(x[:, mask])
    return stacked(sp.csr_array(rows_between(x, rows.start, rows.stop)[:, mask]) for rows, _ in entry_blocks(x.indptr))


def reordered(x: sp.csr_array, order: np.ndarray) -> sp.csr_array:
    """Rows in another order, or some of them: a few at a time where there are many entries."""
    if x.nnz <= MOST:
        return x[order]
    n_parts = -(-x.nnz // ENTRIES_AT_A_TIME)
    return stacked(x[part] for part in np.array_split(order, n_parts))


def rows_between(x: sp.csr_array, start: int, stop: int) -> sp.csr_array:
    """Rows that follow each other; nothing is copied, as SciPy would where they are less than half of all."""
    entries = slice(int(x.indptr[start]), int(x.indptr[stop]))
    part = sp.csr_array((stop - start, x.shape[1]), dtype=x.dtype)
    part.data, part.indices = x.data[entries], x.indices[entries]
    part.indptr = x.indptr[start : stop + 1] - x.indptr[start]
    return part


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array lies in a scratch file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


def entry_blocks(indptr: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Rows of a CSR matrix, or columns of a CSC one, with so many entries at most, or one, and the entries.

    What is computed of them in double precision is small. Between two blocks, what was read of mapped files is let go of.
    """
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        most = int(indptr[start]) + ENTRIES_AT_A_TIME
        stop = max(int(np.searchsorted(indptr, most, side="right")) - 1, start + 1)
        yield slice(start, stop), slice(int(indptr[start]), int(indptr[stop]))
        _let_go()
        start = stop


def _folder() -> str:
    """Where variables say, else ``/var/tmp``: on many systems ``/tmp`` is memory."""
    asked = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return "/var/tmp" if not asked and os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


class _Mapped:
    """Mapped files that are still read, and the thread that lets go of their pages."""

    lock = threading.Lock()
    files: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
    thread: threading.Thread | None = None


def _let_go_of(mapping: mmap.mmap) -> None:
    """Let go of the file's pages many times a second, for as long as someone holds an array of it."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    with _Mapped.lock:
        _Mapped.files.add(mapping)
        if _Mapped.thread is None or not _Mapped.thread.is_alive():  # after a fork it is not
            _Mapped.thread = threading.Thread(target=_keep_letting_go, name="scmag_muon scratch", daemon=True)
            _Mapped.thread.start()


def _keep_letting_go() -> None:
    while _let_go_once():
        time.sleep(_LET_GO_EVERY)


def _let_go() -> None:
    """Let go of what was read of mapped files; a fast pass reads gigabytes between two rounds of the thread."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    with _Mapped.lock:
        for mapping in list(_Mapped.files):
            mapping.madvise(mmap.MADV_DONTNEED)


def _let_go_once() -> bool:
    """Whether there is a mapped file still."""
    _let_go()
    with _Mapped.lock:
        if not _Mapped.files:
            _Mapped.thread = None
        return bool(_Mapped.files)
