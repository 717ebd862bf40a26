"""Files are written aside and renamed, so that under its name a file is the old one or the new one, never half of it."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK, _OLD = ".lock", "replaced"
_SECONDS = 60
_TRIES, _PAUSE = 20, 0.05


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path in a hidden folder beside ``path`` to write a file or a folder to; it takes its place when all has worked.

    What was written is flushed to the disk and renamed. Where writing fails or is interrupted, ``path`` is as it was. A link
    is followed, so that the file it leads to is replaced and the link stays.
    """
    target = Path(path).resolve()
    with folder_beside(target) as aside:
        draft = aside / target.name
        yield draft
        _flush(draft)
        if draft.is_dir() and target.exists():
            _exchange(target, draft, aside / _OLD)
        else:
            draft.replace(target)
        _flush_entry(target.parent)


@contextlib.contextmanager
def folder_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a hidden folder in the folder of ``path`` that is gone afterwards, or with the next call where this process is killed."""
    target = Path(path).resolve()
    prefix = f".{target.name[:50]}-"
    _clear(target, prefix)
    aside = tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True)
    try:
        with aside as folder, _held(Path(folder) / _LOCK):
            yield Path(folder)
    except BaseException:
        _remove(Path(aside.name))
        raise


def _remove(folder: Path) -> None:
    """Remove a folder in which others may still be writing: where zarr fails to write, its other threads go on for a moment."""
    for _ in range(_TRIES):
        time.sleep(_PAUSE)
        if not folder.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)


def _clear(target: Path, prefix: str) -> None:
    """Remove what processes that were killed left beside ``target``, but for what they were about to replace."""
    for lock in target.parent.glob(f"{glob.escape(prefix)}*/{_LOCK}"):
        # who has just begun may not hold its lock yet; one that is held is another process's
        with contextlib.suppress(OSError, NotImplementedError):
            if time.time() - lock.stat().st_mtime < _SECONDS or ((lock.parent / _OLD).exists() and not target.exists()):
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.parent, ignore_errors=True)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that the system lets go of where this process is killed; without one where the file system has none."""
    lock = FileLock(path, timeout=0)
    with contextlib.suppress(OSError, NotImplementedError):
        lock.acquire()
    if not lock.is_locked:
        path.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()


def same_file(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same file or folder, be it by a link or a hard link; neither need exist."""
    first, second = Path(first), Path(second)
    if first.resolve() == second.resolve():
        return True
    return first.exists() and second.exists() and first.samefile(second)


def is_inside(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether ``path`` lies in ``folder`` or deeper, links followed."""
    return any(same_file(parent, folder) for parent in Path(path).resolve().parents)


def _exchange(target: Path, draft: Path, replaced: Path) -> None:
    """Put one folder in the place of another, which a name can't be given to in one step."""
    target.rename(replaced)
    try:
        draft.replace(target)
    except BaseException:
        if not target.exists():
            replaced.rename(target)
        raise


def _flush(path: Path) -> None:
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if each.is_file():
            with each.open("rb+") as file:
                os.fsync(file.fileno())


def _flush_entry(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):  # some file systems can't; the file is in its place
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
