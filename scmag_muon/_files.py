"""Files are written aside and renamed, so that under its name a file is the old one or the new one, never half of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path in a hidden folder beside ``path`` to write a file or a folder to; it takes its place when all has worked.

    What was written is flushed to the disk and renamed. Where writing fails or is interrupted, ``path`` is as it was. A link
    is followed, so that the file it leads to is replaced and the link stays.
    """
    target = Path(path).resolve()
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name[:50]}-", dir=target.parent, ignore_cleanup_errors=True
    ) as aside:
        draft = Path(aside) / target.name
        yield draft
        _flush(draft)
        if draft.is_dir() and target.exists():
            target.rename(Path(aside) / "replaced")
        draft.replace(target)
        _flush_entry(target.parent)


def _flush(path: Path) -> None:
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if each.is_file():
            with each.open("rb+") as file:
                os.fsync(file.fileno())


def _flush_entry(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
