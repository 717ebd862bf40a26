"""Rows about checkpoints of a training."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from filelock import FileLock

import scmag_muon as smm
from scmag_muon.model import _checkpoint
from tests.odd.table import SHORT, Row, citeseq, refused, sound, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_HELD: list[FileLock] = []


@functools.cache
def _state() -> bytes:
    """The state of a training of the shared cells before its last epoch."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(_checkpoint, "_SHARE_OF_TIME", np.inf):
        smm.tl.scmag(citeseq(), n_clusters=2, checkpoint=folder, **SHORT)
        return (Path(folder) / _checkpoint.FILE).read_bytes()


def _with_state(length: int | None = None, make: Callable[[], MuData] = citeseq) -> Callable[[], MuData]:
    """The shared cells, and the state, or its first bytes, in the folder ``state``."""

    def made() -> MuData:
        Path("state").mkdir()
        (Path("state") / _checkpoint.FILE).write_bytes(_state()[:length])
        return make()

    return made


def _in_use() -> MuData:
    Path("state").mkdir()
    _HELD[:] = [FileLock(Path("state") / _checkpoint.LOCK)]
    _HELD[0].acquire()
    return citeseq()


def _other_files() -> MuData:
    Path("state").mkdir()
    (Path("state") / "notes.txt").write_text("of mine")
    return citeseq()


def _a_file() -> MuData:
    Path("state").write_text("of mine")
    return citeseq()


_CALL = "smm.tl.scmag(mdata, n_clusters=2, checkpoint='state', **short)"
_FOLDER = "smm.tl.scmag(mdata, n_clusters=2, checkpoint={}, **short)"

CHECKPOINTS = [
    works("a checkpoint of the same call", _CALL, sound, make=_with_state(), says="It goes on from there."),
    refused(
        "a checkpoint of another seed",
        "smm.tl.scmag(mdata, n_clusters=2, random_state=1, checkpoint='state', **short)",
        ValueError,
        "another run",
        "`random_state` was 0 and is 1",
        "Name another folder",
        make=_with_state(),
        says="names what differs.",
    ),
    refused(
        "a checkpoint of other cells",
        _CALL,
        ValueError,
        "another run",
        "the cells, counts, fit or batches differ",
        make=_with_state(make=lambda: citeseq()[:36].copy()),
        says="names what differs.",
    ),
    refused(
        "a checkpoint of another number of clusters",
        "smm.tl.scmag(mdata, n_clusters=3, checkpoint='state', **short)",
        ValueError,
        "another run",
        make=_with_state(),
        says="names what differs.",
    ),
    refused(
        "a checkpoint that was cut short",
        _CALL,
        ValueError,
        "damaged",
        "checkpoint.safetensors",
        make=_with_state(2000),
        says="names the file.",
    ),
    refused("a checkpoint without a byte", _CALL, ValueError, "damaged", make=_with_state(0), says="names the file."),
    refused(
        "a folder in which another training is under way",
        _CALL,
        BlockingIOError,
        "Another training",
        "state",
        make=_in_use,
        says="names the folder.",
    ),
    refused(
        "a folder with other files",
        _CALL,
        FileExistsError,
        "notes.txt",
        make=_other_files,
        says="names the first file, and a folder that can be taken.",
    ),
    refused("a file in the place of the folder", _CALL, FileExistsError, "state", make=_a_file, says="names the file."),
    refused("no path", _FOLDER.format("7"), TypeError, "checkpoint", says="names the argument."),
    refused(
        "no seed",
        "smm.tl.scmag(mdata, n_clusters=2, random_state=None, checkpoint='state', **short)",
        ValueError,
        "random_state=0",
        says="no call could repeat the run.",
    ),
]

TABLE: dict[str, list[Row]] = {"Checkpoints": CHECKPOINTS}
