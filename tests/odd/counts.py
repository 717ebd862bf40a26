"""Rows about counts: what values they have, and how they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from tests.odd.table import (
    Row,
    changed,
    citeseq,
    dense,
    fitted,
    refused,
    sound,
    sound_fit,
    with_counts,
    with_entry,
    works,
)

if TYPE_CHECKING:
    from mudata import MuData

FIT = "smm.pp.manifold_fit(mdata)"
RUN = "smm.tl.scmag(mdata, n_clusters=2, **short)"
LAYER = "smm.pp.manifold_fit(mdata, layer='counts')"


def same_as_plain(result: Any, mdata: MuData) -> bool:
    """Whether the fit is that of the same counts in a plain float32 CSR matrix."""
    del result
    usual = fitted()
    for name in usual.mod:
        np.testing.assert_allclose(
            dense(mdata[name].layers["manifold"]), dense(usual[name].layers["manifold"]), atol=1e-4
        )
    return True


def _unsorted(counts: np.ndarray) -> sp.csr_matrix:
    matrix = sp.csr_matrix(counts)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        matrix.indices[start:stop] = matrix.indices[start:stop][::-1]
        matrix.data[start:stop] = matrix.data[start:stop][::-1]
    matrix.has_sorted_indices = False
    return matrix


def _in_parts(counts: np.ndarray) -> sp.csr_matrix:
    """Every count above 1 stored in two entries."""
    rows, columns = np.nonzero(counts)
    values = counts[rows, columns]
    large = values > 1
    data = np.concatenate([np.where(large, values - 1, values), np.ones(large.sum(), dtype=np.float32)])
    rows, columns = np.concatenate([rows, rows[large]]), np.concatenate([columns, columns[large]])
    order = np.lexsort((columns, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(counts)))])
    return sp.csr_matrix((data[order], columns[order], indptr), shape=counts.shape)


def _with_zeros(counts: np.ndarray) -> sp.csr_matrix:
    rows, columns = (each.ravel() for each in np.indices(counts.shape))
    return sp.csr_matrix((counts.ravel(), (rows, columns)), shape=counts.shape)


def _long_indices(counts: np.ndarray) -> sp.csr_matrix:
    matrix = sp.csr_matrix(counts)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def _depths(counts: np.ndarray) -> np.ndarray:
    """Library sizes evenly spread from 1 to a million on a log scale."""
    wanted = np.geomspace(1, 1e6, len(counts))
    scaled = np.rint(counts * (wanted / np.maximum(counts.sum(axis=1), 1))[:, None])
    scaled[np.arange(len(counts)), counts.argmax(axis=1)] += scaled.sum(axis=1) == 0
    return scaled.astype(np.float32)


def _dask(counts: np.ndarray) -> Any:
    array = pytest.importorskip("dask.array")
    return array.from_array(counts, chunks=(10, 20))


def _backed() -> MuData:
    with no_pull_on_update():
        citeseq().write_h5mu("backed.h5mu")
        return mudata.read_h5mu(Path("backed.h5mu"), backed="r")


def _zarr() -> MuData:
    with no_pull_on_update():
        citeseq().write_zarr("cells.zarr")
    return smm.read_lazy("cells.zarr")


def _layer(values: Any, modality: str = "rna") -> Any:
    def change(mdata: MuData) -> None:
        for name, adata in mdata.mod.items():
            adata.layers["counts"] = adata.X.copy()
            adata.X = np.log1p(adata.X.toarray())
            if name == modality:
                adata.layers["counts"] = values(dense(adata.layers["counts"]))

    return changed(change)


def _rna_layer(mdata: MuData) -> None:
    rna = mdata["rna"]
    rna.layers["counts"] = rna.X.copy()
    rna.X = np.log1p(rna.X.toarray())


def _no_counts(mdata: MuData) -> MuData:
    rna = AnnData(None, obs=mdata["rna"].obs, var=mdata["rna"].var)
    return make_mudata({"rna": rna, "prot": mdata["prot"]}, mdata.obs)


VALUES = [
    refused(
        "NaN in a count",
        FIT,
        ValueError,
        r"'prot'\]\.X",
        "NaN",
        make=with_entry(np.nan, "prot"),
        says="names the slot.",
    ),
    refused(
        "an infinite count", RUN, ValueError, r"'rna'\]\.X", "infinite", make=with_entry(np.inf), says="names the slot."
    ),
    refused("a count of -1", RUN, ValueError, r"'rna'\]\.X", "negative", make=with_entry(-1), says="names the slot."),
    refused(
        "log(1 + counts) in `.X`",
        FIT,
        ValueError,
        r"'rna'\]\.X",
        "normalised",
        "layer=",
        make=with_counts(np.log1p),
        says="the values seem to be normalised; name the layer of the raw counts.",
    ),
    refused(
        "counts less ambient RNA, with decimals",
        FIT,
        ValueError,
        r"'rna'\]\.X",
        make=with_counts(lambda x: np.where(x > 0, x - np.float32(0.25), x)),
        says="names the slot and what the values seem to be.",
    ),
    refused(
        "every count of the RNA is 0",
        FIT,
        ValueError,
        "'rna'",
        "zero",
        make=with_counts(np.zeros_like),
        says="names the slot.",
    ),
    refused(
        "a modality without `.X`", FIT, ValueError, "'rna'", "layer", make=changed(_no_counts), says="names the slot."
    ),
    works("counts up to 10⁷", RUN, sound, make=with_entry(1e7), says="Every cell has a cluster."),
    works("library sizes from 1 to 10⁶", RUN, sound, make=with_counts(_depths), says="Every cell has a cluster."),
    works(
        "no count above 1", RUN, sound, make=with_counts(lambda x: np.minimum(x, 1)), says="Every cell has a cluster."
    ),
    works(
        "one cell has one count, in one gene",
        RUN,
        sound,
        make=with_counts(lambda x: np.where(np.arange(40)[:, None] > 0, x, np.eye(1, 20, dtype=np.float32))),
        says="Every cell has a cluster.",
    ),
]

LAYERS = [
    refused(
        "no such layer",
        LAYER,
        KeyError,
        "'counts'",
        "'rna'",
        says="names layer and modality, and lists the layers that are there.",
    ),
    works(
        "raw counts in a layer, logarithms in `.X`",
        LAYER,
        same_as_plain,
        make=_layer(sp.csr_matrix),
        says="The same fit as with counts in `.X`.",
    ),
    refused(
        "the layer of one modality holds decimals",
        LAYER,
        ValueError,
        r"'prot'\]\.layers\['counts'\]",
        make=_layer(lambda x: x / 3, "prot"),
        says="names modality and layer.",
    ),
    refused(
        "a layer for a modality that is not there",
        "smm.tl.scmag(mdata, layer={'RNA': 'counts'}, **short)",
        KeyError,
        "'RNA'",
        "'rna'",
        make=_layer(sp.csr_matrix),
        says="names it and lists the modalities that are there.",
    ),
    works(
        "a layer in the RNA alone",
        "smm.pp.manifold_fit(mdata, layer={'rna': 'counts'})",
        same_as_plain,
        make=changed(_rna_layer),
        says="The proteins' counts are those of `.X`.",
    ),
]


def _stored(given: str, change: Any, call: str = FIT) -> Row:
    check = same_as_plain if call == FIT else sound
    says = "The same fit as of float32 in CSR." if call == FIT else "Every cell has a cluster."
    return works(given, call, check, make=with_counts(change), says=says)


STORAGE = [
    _stored("CSC", sp.csc_matrix),
    _stored("COO, as a sparse array", lambda x: sp.csr_array(sp.coo_array(x))),
    _stored("a plain array", lambda x: x),
    _stored("a plain array in Fortran's order", np.asfortranarray),
    _stored("float64", lambda x: sp.csr_matrix(x.astype(np.float64))),
    _stored("uint8", lambda x: sp.csr_matrix(np.minimum(x, 255).astype(np.uint8))),
    _stored("uint32, dense", lambda x: x.astype(np.uint32)),
    _stored("int64", lambda x: sp.csr_matrix(x.astype(np.int64))),
    _stored("float16", lambda x: x.astype(np.float16)),
    _stored("64-bit indices", _long_indices),
    _stored("CSR with unsorted indices", _unsorted),
    _stored("CSR with unsorted indices", _unsorted, RUN),
    _stored("CSR with entries stored in two parts", _in_parts),
    _stored("CSR with entries stored in two parts", _in_parts, RUN),
    _stored("CSR with stored zeros", _with_zeros),
    _stored("true and false", lambda x: x > 0, RUN),
    _stored("true and false, sparse", lambda x: sp.csr_matrix(x > 0), RUN),
    _stored("a `numpy.matrix`", np.matrix),
    _stored("a dask array", _dask),
    works(
        "a view of a MuData",
        "smm.tl.scmag(mdata, n_clusters=2, copy=True, **short)",
        lambda result, _: sound(None, result),
        make=changed(lambda mdata: mdata[::-1]),
        says="The copy has clusters for the view's cells.",
    ),
    works("a backed file", FIT, sound_fit, make=_backed, says="Counts are read, the file is as before."),
    works(
        "a backed file",
        "smm.tl.scmag(mdata, n_clusters=2, **short)",
        sound,
        make=_backed,
        says="Results are in memory, the file is as before.",
    ),
    works(
        "counts left in a `.zarr` store", FIT, sound_fit, make=_zarr, says="Counts are read, the store is as before."
    ),
    refused("no file", "smm.read_lazy('none.zarr')", FileNotFoundError, r"none\.zarr", says="names the path."),
]

TABLE: dict[str, list[Row]] = {"Values of counts": VALUES, "Layers of counts": LAYERS, "Storage of counts": STORAGE}
