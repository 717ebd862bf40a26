from __future__ import annotations

import errno
import gc
import logging
import mmap
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.manifold import scratch
from scmag_muon.manifold.packed import PackedCounts


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Above ten entries to a file, of blocks of four; in a folder of the test."""
    monkeypatch.setattr(scratch, "MOST", 10)
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 4)
    monkeypatch.setattr(scratch, "_folder", lambda: str(tmp_path))


def matrix(n_rows: int = 30, n_columns: int = 7) -> sp.csr_array:
    rng = np.random.default_rng(0)
    x = sp.csr_array(rng.poisson(0.7, (n_rows, n_columns)).astype(np.float32))
    x.data += 1
    return x


def same(found: sp.csr_array, expected: sp.csr_array) -> None:
    assert isinstance(found, sp.csr_array)
    assert found.dtype == np.float32
    assert found.has_canonical_format
    np.testing.assert_array_equal(found.toarray(), expected.toarray())


@pytest.mark.parametrize("sizes", [(), (3,), (4, 0, 6), (4, 0, 7), (40,), (5, 5, 5, 5, 5, 0)])
def test_pieces_one_after_the_other(sizes: tuple[int, ...], tmp_path: Path) -> None:
    gathered = scratch.Gathered(np.float32)
    pieces = [np.arange(size) + 100 * i for i, size in enumerate(sizes)]
    for piece in pieces:
        gathered.append(piece)
    found = gathered.array()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate([[], *pieces]))
    assert scratch.is_mapped(found) == (sum(sizes) > 10)
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_nobody_writes_to_the_file() -> None:
    gathered = scratch.Gathered(np.float32)
    gathered.append(np.ones(20))
    with pytest.raises(ValueError, match="read-only"):
        gathered.array()[0] = 2


@pytest.mark.parametrize("n_rows", [1, 3, 30])
def test_blocks_of_rows_are_stacked(n_rows: int) -> None:
    x = matrix()
    blocks = [x[start : start + n_rows] for start in range(0, 30, n_rows)]
    found = scratch.stacked(iter(blocks))
    same(found, x)
    assert scratch.is_mapped(found.data) == (len(blocks) > 1)
    assert scratch.is_mapped(found.indices) == (len(blocks) > 1)


def test_a_single_block_is_not_copied() -> None:
    x = matrix()
    assert scratch.stacked(iter([x])) is x


def test_blocks_of_few_entries_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = matrix()
    monkeypatch.setattr(scratch, "MOST", x.nnz)
    found = scratch.stacked([x[:7], x[7:]])
    same(found, x)
    assert not scratch.is_mapped(found.data)


@pytest.mark.parametrize("most", [0, 10**6])
@pytest.mark.parametrize("chosen", [slice(0, 7), slice(2, 5), slice(0, 0)])
def test_columns_and_rows_in_another_order(most: int, chosen: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MOST", most)
    x, mask = matrix(), np.zeros(7, dtype=bool)
    mask[chosen] = True
    found = scratch.only_columns(x, mask)
    same(found, x[:, mask])
    assert (found is x) == bool(mask.all())
    order = np.random.default_rng(1).permutation(30)
    for rows in (order, order[:11], np.sort(order[:2])):
        same(scratch.reordered(x, rows), x[rows])


@pytest.mark.parametrize(("start", "stop"), [(0, 30), (4, 9), (7, 7), (3, 30)])
def test_rows_that_follow_each_other(start: int, stop: int) -> None:
    x = matrix()
    found = scratch.rows_between(x, start, stop)
    same(found, x[start:stop])
    if start < stop:
        assert np.shares_memory(found.data, x.data)
        assert np.shares_memory(found.indices, x.indices)


def test_blocks_hold_as_many_rows_as_fit() -> None:
    sizes = np.random.default_rng(0).integers(0, 4, 60)
    sizes[[7, 8, 30]] = 9, 6, 5  # more than a block may hold
    starts = np.concatenate([[0], np.cumsum(sizes)])
    blocks, row = list(scratch.entry_blocks(starts)), 0
    for rows, entries in blocks:
        assert rows.start == row
        row = rows.stop
        assert entries == slice(starts[rows.start], starts[row])
        assert sizes[rows].sum() <= 4 or row - rows.start == 1
        assert row == len(sizes) or sizes[rows.start : row + 1].sum() > 4
    assert row == len(sizes)
    assert not list(scratch.entry_blocks(np.zeros(1, dtype=int)))


@pytest.mark.parametrize("at", ["open", "write"])
def test_without_room_all_stays_in_memory(
    at: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make = tempfile.TemporaryFile

    class Full:
        """A disk with room for sixty bytes."""

        def __init__(self, **kwargs: Any) -> None:
            if at == "open":
                raise OSError(errno.EACCES, "Permission denied")
            self.file = make(**kwargs)

        def write(self, data: Any) -> int:
            if self.file.tell() + data.nbytes > 60:
                self.file.write(bytes(data)[:3])  # a part of it fits
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    gathered = scratch.Gathered(np.float32)
    with caplog.at_level(logging.WARNING):
        for start in range(0, 30, 3):
            gathered.append(np.arange(start, start + 3))
    found = gathered.array()
    np.testing.assert_array_equal(found, np.arange(30))
    assert not scratch.is_mapped(found)
    (record,) = caplog.records
    assert "TMPDIR" in record.getMessage()
    assert ("Permission denied" if at == "open" else "No space left on device") in record.getMessage()


def in_file() -> float:
    """Megabytes of files that the process holds."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssFile:")[1].split()[0]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is held")
def test_what_was_read_is_let_go_of(tmp_path: Path) -> None:
    gathered = scratch.Gathered(np.float32)
    for _ in range(8):
        gathered.append(np.ones(2**21))
    array = gathered.array()
    before = in_file()
    for _ in range(3):
        assert array.sum() == 8 * 2**21  # maps 64 MB
        wait = time.monotonic() + 20
        while in_file() > before + 16 and time.monotonic() < wait:
            time.sleep(0.02)
        assert in_file() <= before + 16


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is held")
def test_packing_lets_go_of_what_it_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 2**18)
    monkeypatch.setattr(scratch, "_let_go_once", lambda: True)  # the thread does not help
    values = np.ones(2**19, np.float32)
    columns, starts = np.tile(np.arange(2**10, dtype=np.int32), 2**9), np.arange(0, 2**19 + 1, 2**10, dtype=np.int32)
    block = sp.csr_array((values, columns, starts), shape=(2**9, 2**10))
    counts = scratch.stacked(block for _ in range(32))  # 128 MB
    before = in_file()
    packed = PackedCounts(counts)
    assert in_file() <= before + 16
    assert (packed.values == 1).all()


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="pages can't be let go of")
def test_one_thread_for_as_long_as_a_file_is_read() -> None:
    gc.collect()
    others = len(scratch._Mapped.files)  # of models that tests before have left
    gathered = scratch.Gathered(np.float32)
    gathered.append(np.ones(20))
    array = gathered.array()
    gathered = scratch.Gathered(np.float32)
    gathered.append(np.ones(20))
    second = gathered.array()
    (thread,) = threads()
    view = array[3:5]
    del array, gathered, second
    gc.collect()
    assert len(scratch._Mapped.files) == others + 1
    time.sleep(3 * scratch._LET_GO_EVERY)
    assert thread.is_alive()
    np.testing.assert_array_equal(view, 1)
    del view
    gc.collect()
    assert len(scratch._Mapped.files) == others
    if not others:
        thread.join(timeout=20)
        assert not thread.is_alive()
        gathered = scratch.Gathered(np.float32)  # and one comes anew with the next file
        gathered.append(np.ones(20))
        array = gathered.array()
        assert len(threads()) == 1
        np.testing.assert_array_equal(array, 1)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "scmag_muon scratch"]


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)


FOLDER = scratch._folder


def test_the_folder_is_the_one_that_a_variable_names(
    no_variables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.access("/var/tmp", os.W_OK):
        assert FOLDER() == "/var/tmp"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert FOLDER() == tempfile.gettempdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert FOLDER() == str(tmp_path)
