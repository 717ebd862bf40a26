"""Matrices that stay in one file while results are made, and are copied into another by blocks of rows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from tqdm.auto import tqdm

from scmag_muon._bars import hidden
from scmag_muon._mudata._blocks import in_file, read_rows, row_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData


@contextlib.contextmanager
def left_out(mdata: MuData) -> Iterator[dict[str, Any]]:
    """The matrices that lie in a file, by their place in a file of the MuData, which meanwhile has empty ones in their stead."""
    found: dict[str, Any] = {}
    try:
        for name, adata in mdata.mod.items():
            matrices = {} if adata.isbacked else _matrices(adata)  # anndata would write the empty ones to its file
            for slot, matrix in matrices.items():
                if in_file(matrix):
                    found[f"mod/{name}/{slot}"] = matrix
                    _put(adata, slot, sp.csr_matrix(matrix.shape, dtype=matrix.dtype))
        yield found
    finally:
        for place, matrix in found.items():
            _, name, slot = place.split("/", 2)
            _put(mdata.mod[name], slot, matrix)


def copy_blocks(store: Any, matrices: dict[str, Any], **options: Any) -> Iterator[None]:
    """Copy each matrix to its place in a store of h5py or zarr, with ``options`` of its arrays. Comes back after each block."""
    n_blocks = sum(len(row_blocks(matrix)) for matrix in matrices.values())
    with tqdm(total=n_blocks, desc="copying counts", unit="block", disable=hidden(shown=n_blocks > 1)) as bar:
        for place, matrix in matrices.items():
            for _ in _copied(store, place, matrix, options):
                bar.update()
                yield


def _copied(store: Any, place: str, matrix: Any, options: dict[str, Any]) -> Iterator[None]:
    parent, _, key = place.rpartition("/")
    group = store[parent]
    whole: Any = None
    del group[key]
    for rows in row_blocks(matrix):
        block = read_rows(matrix, rows, where=_shown(place))
        if not sp.issparse(block):
            whole = whole if rows.start else _dense(group, key, matrix, options)
            whole[rows] = block
        elif rows.start:
            whole.append(block)
        else:
            block.indptr = block.indptr.astype(np.int64)  # of all blocks there may be more entries
            anndata.io.write_elem(group, key, block, dataset_kwargs=options)
            whole = anndata.io.sparse_dataset(group[key])
        yield


def _dense(group: Any, key: str, matrix: Any, options: dict[str, Any]) -> Any:
    """An array of zeros, which anndata knows for a matrix."""
    make, chunks = (group.create_dataset, True) if isinstance(group, h5py.Group) else (group.create_array, "auto")
    whole = make(key, shape=matrix.shape, dtype=matrix.dtype, chunks=chunks, **options)
    whole.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return whole


def _matrices(adata: AnnData) -> dict[str, Any]:
    found = {"X": adata.X, **{f"layers/{name}": adata.layers[name] for name in adata.layers if name is not None}}
    return found if adata.raw is None else {**found, "raw/X": adata.raw.X}


def _put(adata: AnnData, slot: str, matrix: Any) -> None:
    kind, _, name = slot.partition("/")
    if kind == "X":
        adata.X = matrix
    elif kind == "layers":
        adata.layers[name] = matrix
    else:
        adata.raw = AnnData(matrix, var=adata.raw.var, varm=dict(adata.raw.varm))


def _shown(place: str) -> str:
    """As the user writes it."""
    _, name, kind, *layer = place.split("/")
    return f"mdata[{name!r}].{kind}" + "".join(f"[{each!r}]" if kind == "layers" else f".{each}" for each in layer)
