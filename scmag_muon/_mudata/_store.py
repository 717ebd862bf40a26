"""A MuData on disk: whether it can be written, and writing it whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.abc import CSRDataset

from scmag_muon._files import folder_beside, written_aside
from scmag_muon._mudata._cells import no_pull_on_update
from scmag_muon._mudata._copied import copy_blocks, left_out
from scmag_muon._mudata._draft import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

_FORMATS = (".h5mu", ".zarr")
_FRAMES = ("obs", "var")
_ALIGNED = ("obsm", "varm", "obsp", "varp", "layers")
# gzip makes counts four times smaller, seldom more
_COMPRESSION = 4


def check_format(path: str | os.PathLike[str], *, argument: str = "path") -> str:
    """The format that the ending of ``path`` names: ``".h5mu"`` or ``".zarr"``."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(
            f"{argument} {os.fspath(path)}: the ending says the format, and {suffix or 'no ending'} is none that a MuData is "
            f"written in. Use {' or '.join(_FORMATS)}, for example {Path(path).with_suffix('.h5mu')}."
        )
    target = Path(path).resolve()
    if target.suffix.lower() != suffix:
        raise ValueError(
            f"{argument} {os.fspath(path)} is a link to {target}, which is no {suffix}. Give another name."
        )
    return suffix


def check_writable(mdata: MuData, path: str | os.PathLike[str], *, further_bytes: int = 0) -> None:
    """Raise unless ``mdata`` can be written to ``path``: by a trial of every slot, of matrices two rows.

    The trial goes to a hidden folder beside ``path`` that is removed again. ``further_bytes`` is what will be added to ``mdata``
    before it is written.

    Raises
    ------
    ValueError
        Where the ending names no format, or a slot or column holds what the format can't; it is named.
    OSError
        Where the folder can't be written to, or the disk lacks the space.
    """
    suffix = check_format(path)
    needed = (_stored_bytes(mdata) + further_bytes) // _COMPRESSION
    free = shutil.disk_usage(Path(path).resolve().parent).free
    if free < needed:
        raise OSError(
            f"{os.fspath(path)} needs at least {needed / 1e6:,.0f} MB, but the disk has {free / 1e6:,.0f} MB left. "
            "Make room, or write to another disk."
        )
    with folder_beside(path) as folder, nullable_strings():
        if suffix == ".zarr":
            import zarr

            _try_all(mdata, zarr.open_group(str(folder / "trial"), mode="w", zarr_format=_zarr_format()))
        else:
            # in memory: HDF5 can't recover from a disk that is full
            with h5py.File("trial", "w", driver="core", backing_store=False) as file:
                _try_all(mdata, file)


def write_mudata(mdata: MuData, path: str | os.PathLike[str]) -> None:
    """Write ``mdata`` compressed, as ``.h5mu`` or ``.zarr`` by the ending of ``path``; aside first, so ``path`` is never half.

    Matrices that lie in a file (:func:`~scmag_muon.read_lazy`) are copied by blocks of rows.

    Raises
    ------
    OSError
        Where the disk is full or the folder can't be written to; ``path`` is then as it was.
    """
    suffix = check_format(path)
    try:
        with written_aside(path) as draft, no_pull_on_update(), nullable_strings():
            if suffix == ".zarr":
                _write_zarr(mdata, draft)
            else:
                _write_h5mu(mdata, draft)
    except OSError as error:
        raise OSError(
            f"{os.fspath(path)} could not be written: {_reason(error)}. What was there before is unchanged."
        ) from error


def _write_h5mu(mdata: MuData, path: Path) -> None:
    with Draft(path) as draft, draft.noting_interrupts():
        try:
            with left_out(mdata) as matrices:
                mdata.write_h5mu(draft, compression="gzip")
            _copy(matrices, draft)
        except Exception:
            if draft.failure is None:
                raise
        if draft.failure is not None:
            raise draft.failure


def _copy(matrices: dict[str, Any], draft: Draft) -> None:
    if not matrices or draft.has_failed():
        return
    with h5py.File(draft, "r+") as file:
        for _ in copy_blocks(file, matrices, compression="gzip"):
            if draft.has_failed():
                return


def _write_zarr(mdata: MuData, path: Path) -> None:
    with left_out(mdata) as matrices:
        mdata.write_zarr(path)
    if matrices:
        import zarr

        for _ in copy_blocks(zarr.open_group(str(path), mode="r+"), matrices):
            pass


def _reason(error: OSError) -> str:
    if error.errno == errno.EDQUOT:
        return "your share of the disk is full"
    return os.strerror(error.errno) if error.errno else str(error)


def nullable_strings() -> Any:
    """Let anndata write pandas' own string type, which files of other tools hold."""
    return anndata.settings.override(allow_write_nullable_strings=True)


def _zarr_format() -> Any:
    return getattr(anndata.settings, "zarr_write_format", 2)


def _stored_bytes(mdata: MuData) -> int:
    matrices = [*mdata.obsm.values()]
    for adata in mdata.mod.values():
        matrices += [adata.X, *(adata.layers[name] for name in adata.layers if name is not None)]
        matrices += [*adata.obsm.values(), *adata.obsp.values()]
    return sum(_bytes_of(matrix) for matrix in matrices)


def _bytes_of(matrix: Any) -> int:
    if isinstance(matrix, CSRDataset):
        return int(matrix.group["data"].nbytes + matrix.group["indices"].nbytes)
    if hasattr(matrix, "indptr"):
        return int(matrix.data.nbytes + matrix.indices.nbytes)
    return int(getattr(matrix, "nbytes", 0))


class _Slot(NamedTuple):
    where: str
    key: str
    value: Any
    fix: str


def _try_all(mdata: MuData, store: Any) -> None:
    for number, (where, key, value, fix) in enumerate(_slots(mdata)):
        try:
            anndata.io.write_elem(store.create_group(str(number)), key, value)
        except OSError:
            raise
        except Exception as error:
            raise _unwritable(where, " ".join(str(error).split("\nError raised")[0].split()), fix) from error


def _unwritable(where: str, reason: str, fix: str) -> ValueError:
    return ValueError(f"{where} can't be written to a file ({reason}). {fix}")


def _slots(mdata: MuData) -> Iterator[_Slot]:
    """All that goes into a file."""
    yield from _slots_of(mdata, "mdata")
    for name, adata in mdata.mod.items():
        _check_key(name, f"The modality {name!r}")
        where = f"mdata[{name!r}]"
        yield from _slots_of(adata, where)
        if adata.X is not None:
            yield _Slot(f"{where}.X", "X", adata.X[:2], "Make it a NumPy array or a CSR matrix of numbers.")
        if adata.raw is not None:
            yield from _columns(adata.raw.var, f"{where}.raw.var")


def _slots_of(part: Any, where: str) -> Iterator[_Slot]:
    for slot in _FRAMES:
        yield from _columns(getattr(part, slot), f"{where}.{slot}")
    for slot in _ALIGNED:
        for key, value in (getattr(part, slot, None) or {}).items():
            if slot == "layers" and key is None:
                continue
            name = f"{where}.{slot}[{key!r}]"
            _check_key(key, name)
            if isinstance(value, pd.DataFrame):
                yield from _columns(value, name)
            else:
                yield _Slot(name, key, value[:2], f"Make it an array of numbers, or leave it out: del {name}.")
    yield from _leaves(part.uns, f"{where}.uns")


def _check_key(key: Any, name: str) -> None:
    if not isinstance(key, str) or "/" in key or not key.strip("."):
        raise _unwritable(name, "a name must be text without '/'", "Rename it.")


def _columns(frame: pd.DataFrame, where: str) -> Iterator[_Slot]:
    if not all(isinstance(column, str) for column in frame.columns):
        raise _unwritable(
            where, "names of columns must be text", f"Make them text: {where}.columns = {where}.columns.astype(str)."
        )
    if not frame.columns.is_unique:
        name = frame.columns[frame.columns.duplicated()][0]
        fix = f"Keep one of each: {where} = {where}.loc[:, ~{where}.columns.duplicated()]."
        raise _unwritable(where, f"two columns are called {name!r}", fix)
    frame = frame.copy(deep=False)
    anndata.AnnData.strings_to_categoricals(None, frame)
    for column in frame.columns:
        name = f"{where}[{column!r}]"
        values = frame[column].array
        values = values.to_numpy() if isinstance(values, pd.arrays.NumpyExtensionArray) else values
        yield _Slot(name, "column", values, _as_text(name, frame[column]))
    index = pd.DataFrame(index=frame.index.rename(None))
    yield _Slot(f"{where}.index", "index", index, _as_text(f"{where}.index", frame.index))
    rename = "rename(columns=lambda name: name.replace('/', '_').replace('_index', 'index'))"
    yield _Slot(where, "frame", frame.iloc[:2], f"Rename: {where} = {where}.rename_axis(None).{rename}.")


def _as_text(name: str, values: pd.Series | pd.Index) -> str:
    text = f"{name} = {name}.astype(str)"
    if pd.api.types.infer_dtype(np.asarray(values, dtype=object)) == "string":
        return f"Leave out what can't be stored: {text}.map(lambda x: x.encode(errors='replace').decode().replace(chr(0), ''))."
    return f"Turn it into text: {text}."


def _leaves(values: Mapping[Any, Any], where: str) -> Iterator[_Slot]:
    for key, value in values.items():
        name = f"{where}[{key!r}]"
        if not isinstance(key, str):
            fix = f"Make it text: {where}[{str(key)!r}] = {where}.pop({key!r})."
            raise _unwritable(name, f"its name is no text but of type {type(key).__name__}", fix)
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        else:
            yield _Slot(name, key, value, f"Store it as numbers, text or an array, or leave it out: del {name}.")
