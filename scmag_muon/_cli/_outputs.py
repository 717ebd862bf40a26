"""Where results may go: never onto the input or each other, and onto what exists only when told."""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scmag_muon._files import is_inside, same_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

Output = tuple[str, Path]


def check_outputs(
    outputs: Iterable[Output], *, further: Iterable[Output] = (), read: Path | None = None, force: bool
) -> None:
    """Raise unless every option's path can be written without loss.

    Parameters
    ----------
    outputs
        Option and path of each file (or ``.zarr`` folder) that will be written.
    further
        Folders that hold nothing else, and files in folders that will be made: here they are compared with the others only.
    read
        The input.
    force
        Whether what exists may be replaced; the input never is.
    """
    outputs = list(outputs)
    places = [*outputs, *further]
    for option, path in places:
        if read is not None and _collide(path, read):
            raise ValueError(
                f"{option} {path} leads to the input {read}, which is never written to. Give another name."
            )
    for (option, path), (other, other_path) in itertools.combinations(places, 2):
        if _collide(path, other_path):
            raise ValueError(f"{option} {path} and {other} {other_path} lead to the same place. Give each its own.")
    for option, path in outputs:
        _check_place(option, path, force=force)


def free_place(path: Path, *, force: bool, taken: Callable[[Path], bool] = Path.exists) -> Path:
    """The path; or, where another run has written there since the start, a free name beside it, which a warning tells."""
    if force or not taken(path):
        return path
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    free = next(name for name in names if not name.exists())
    logger.warning("%s was written by another run meanwhile and is not replaced. This one writes %s.", path, free)
    return free


def check_folder(option: str, folder: Path, *, read: Path | None = None) -> None:
    """Raise where a folder of results is, holds or lies in the input, or can't be made."""
    if read is not None and (_collide(folder, read)):
        raise ValueError(
            f"{option} {folder} is or holds the input {read}, which is never written to. Give a folder of its own."
        )
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{option} {folder} is a file; a folder is needed.")
    _check_parent(option, folder if folder.exists() else folder.resolve().parent)


def _collide(path: Path, other: Path) -> bool:
    return same_file(path, other) or is_inside(path, other) or is_inside(other, path)


def _check_place(option: str, path: Path, *, force: bool) -> None:
    as_folder = path.suffix.lower() == ".zarr"
    if path.is_dir() and not as_folder:
        raise IsADirectoryError(f"{option} {path} is a folder; the name of a file is needed.")
    if path.exists() and as_folder and not _is_zarr(path):
        raise FileExistsError(f"{option} {path} exists and is no zarr store, so it is not replaced. Give another name.")
    if path.exists() and not as_folder and not path.is_file():
        raise FileExistsError(f"{option} {path} is no ordinary file. Give another name.")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already. Replace it with --force, or give {option} another name.")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is protected against writing. Give {option} another name.")
    _check_parent(option, path.resolve().parent)


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", "zarr.json"))


def _check_parent(option: str, folder: Path) -> None:
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {folder} for {option}. Make it first.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder, so {option} can't be written there.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{option} can't be written to the folder {folder}: {error.strerror}.") from error
