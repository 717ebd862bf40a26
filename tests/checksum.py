"""Checksums of everything that a MuData holds, array by array, and arrays that can't be written to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from mudata import MuData


def checksums(mdata: MuData) -> dict[str, str]:
    """A checksum for each slot, as ``{"rna/X": ..., "rna/obs/batch": ..., "obsm/X_scmag": ...}``."""
    return {path: _digest(value) for path, value in _slots(mdata)}


def changed(before: Mapping[str, str], mdata: MuData) -> set[str]:
    """Slots that were there before and are gone or hold other bytes."""
    after = checksums(mdata)
    return {path for path, digest in before.items() if after.get(path) != digest}


def freeze(mdata: MuData) -> None:
    """Make read-only every array of counts, layers and embeddings that NumPy can protect."""
    for adata in mdata.mod.values():
        if not getattr(adata, "isbacked", False):
            for matrix in (adata.X, *adata.layers.values(), *adata.obsm.values()):
                _freeze(matrix)
    for matrix in mdata.obsm.values():
        _freeze(matrix)


def _freeze(matrix: Any) -> None:
    for array in (matrix, *(getattr(matrix, part, None) for part in ("data", "indices", "indptr", "row", "col"))):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


def _slots(mdata: MuData) -> Iterator[tuple[str, Any]]:
    yield from _of_one(mdata, "")
    for name, adata in mdata.mod.items():
        yield f"{name}/X", adata.X
        yield from ((f"{name}/layers/{slot}", adata.layers[slot]) for slot in adata.layers)
        yield from _of_one(adata, f"{name}/")
    yield "mod", list(mdata.mod)
    yield from ((f"obsmap/{name}", mdata.obsmap[name]) for name in mdata.obsmap)


def _of_one(data: MuData | AnnData, prefix: str) -> Iterator[tuple[str, Any]]:
    for axis in ("obs", "var"):
        frame = getattr(data, axis)
        yield f"{prefix}{axis}_names", frame.index
        yield from ((f"{prefix}{axis}/{column}", frame[column]) for column in dict.fromkeys(frame.columns))
    for part in ("obsm", "varm", "obsp", "varp", "uns"):
        slots = getattr(data, part)
        yield from ((f"{prefix}{part}/{slot}", slots[slot]) for slot in slots)


def _digest(value: Any) -> str:
    return hashlib.sha256("\n".join(map(str, _parts(value))).encode("utf-8", "surrogatepass")).hexdigest()


def _parts(value: Any) -> Iterator[object]:
    yield type(value).__name__
    if sp.issparse(value):
        yield value.shape
        for part in ("data", "indices", "indptr", "row", "col"):
            if hasattr(value, part):
                yield from _parts(getattr(value, part))
    elif isinstance(value, np.ndarray):
        yield value.dtype
        yield value.shape
        yield value.tolist() if value.dtype.hasobject else hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
    elif isinstance(value, (pd.DataFrame, Mapping)):
        for key in value:
            yield repr(key)
            yield from _parts(value[key])
        if isinstance(value, pd.DataFrame):
            yield from _parts(value.index)
    elif isinstance(value, (pd.Series, pd.Index)):
        yield value.dtype
        yield repr(value.name)
        yield [repr(item) for item in value.tolist()]
    elif hasattr(value, "compute"):
        yield from _parts(value.compute())
    elif hasattr(value, "to_memory"):
        yield from _parts(value.to_memory())
    elif hasattr(value, "shape"):
        yield from _parts(np.asarray(value[()] if value.shape == () else value[:]))
    else:
        yield repr(value)
