"""Rows about new cells that are mapped onto a trained reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from tests.odd.models import model
from tests.odd.table import Row, changed, citeseq, fitted, refused, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def _of(*names: str, n_obs: int = 40) -> Callable[[], MuData]:
    """Some of the modalities of the shared cells."""

    def made() -> MuData:
        mdata = citeseq()[:n_obs].copy()
        return make_mudata({name: mdata[name].copy() for name in names}, mdata.obs)

    return made


def _renamed(prefix: str, first: int = 0) -> Callable[[], MuData]:
    """Genes from a number on under other names."""

    def change(mdata: MuData) -> MuData:
        rna = mdata["rna"].copy()
        rna.var_names = [name if i < first else prefix + name for i, name in enumerate(rna.var_names)]
        return make_mudata({"rna": rna, "prot": mdata["prot"].copy()}, mdata.obs)

    return changed(change)


def _empty_cell(mdata: MuData) -> None:
    for adata in mdata.mod.values():
        counts = adata.X.toarray()
        counts[0] = 0
        adata.X = sp.csr_matrix(counts)


def _log(mdata: MuData) -> None:
    mdata["rna"].X = np.log1p(mdata["rna"].X.toarray())


def _mapped(_: object, mdata: MuData) -> bool:
    numbers = [mdata.obsm["X_scmag"], mdata.obs["scmag_confidence"], mdata.obs["scmag_unlikeness"]]
    return bool(mdata.obs["scmag"].notna().all() and all(np.isfinite(values).all() for values in numbers))


QUERIES = [
    refused(
        "an AnnData",
        "smm.tl.map_query(mdata['rna'], model)",
        TypeError,
        "AnnData",
        says="a MuData is needed.",
    ),
    refused(
        "a reference of another type",
        "smm.tl.map_query(mdata, 7)",
        TypeError,
        "reference",
        says="names what a reference may be.",
    ),
    refused(
        "a folder that is not there",
        "smm.tl.map_query(mdata, 'none')",
        FileNotFoundError,
        "none",
        says="names the folder.",
    ),
    refused(
        "a MuData without its model",
        "smm.tl.map_query(mdata, mdata)",
        ValueError,
        "model=model",
        says="a MuData holds no network.",
    ),
    refused(
        "no modality of the reference",
        "smm.tl.map_query(mdata, model)",
        ValueError,
        "'gex'",
        make=changed(lambda mdata: make_mudata({"gex": mdata["rna"].copy()}, mdata.obs)),
        says="names those of both.",
        fix="mdata = mudata.MuData({'rna': mdata['gex']})",
    ),
    refused(
        "other names of genes",
        "smm.tl.map_query(mdata, model)",
        ValueError,
        "'rna'",
        "0 of the reference's 20",
        make=_renamed("ENSG"),
        says="names the modality and the first missing feature.",
    ),
    refused(
        "labels that the reference does not have",
        "smm.tl.map_query(mdata, model, labels='types')",
        KeyError,
        "'types'",
        says="names the column.",
    ),
    refused(
        "logarithms",
        "smm.tl.map_query(mdata, model)",
        ValueError,
        "'rna'",
        "normalised",
        make=changed(_log),
        says="names modality and slot.",
    ),
    refused(
        "no such layer",
        "smm.tl.map_query(mdata, model, layer='raw')",
        KeyError,
        "'raw'",
        says="names layer and modality.",
    ),
    refused(
        "no such batch column",
        "smm.tl.map_query(mdata, model, batch_key='plate')",
        KeyError,
        "'plate'",
        says="names the column.",
    ),
    refused(
        "a name that files can't hold",
        "smm.tl.map_query(mdata, model, key_added='a/b')",
        ValueError,
        "key_added",
        says="gives another name.",
    ),
    refused(
        "a column of the user's under the name",
        "smm.tl.map_query(mdata, model, key_added='batch')",
        ValueError,
        "'batch'",
        says="nothing is overwritten.",
    ),
    works("one cell", "smm.tl.map_query(mdata, model)", _mapped, make=_of("rna", "prot", n_obs=1), says="Its cluster."),
    works(
        "RNA alone", "smm.tl.map_query(mdata, model)", _mapped, make=_of("rna"), says="Finite; proteins are imputed."
    ),
    works(
        "proteins alone", "smm.tl.map_query(mdata, model)", _mapped, make=_of("prot"), says="Finite; RNA is imputed."
    ),
    works(
        "half of the genes under other names",
        "smm.tl.map_query(mdata, model)",
        _mapped,
        make=_renamed("other_", first=10),
        says="A warning counts the genes that are missing.",
    ),
    works(
        "a cell without counts", "smm.tl.map_query(mdata, model)", _mapped, make=changed(_empty_cell), says="Finite."
    ),
    works(
        "the reference's own cells, fitted",
        "smm.tl.map_query(mdata, model, labels='cell_type')",
        lambda _, mdata: _mapped(_, mdata) and mdata.obs["scmag_cell_type"].notna().all(),
        make=fitted,
        says="Clusters and labels; the fit is as before.",
    ),
    works(
        "a further modality of unknown kind",
        "smm.tl.map_query(mdata, model)",
        _mapped,
        make=changed(
            lambda mdata: make_mudata(
                {**dict(mdata.mod), "hto": AnnData(np.ones((40, 2), "f4"), obs=mdata.obs[[]])}, mdata.obs
            )
        ),
        says="It plays no part.",
    ),
]


def _after(basis: str | None = "X_umap") -> Callable[[], MuData]:
    """A query that was mapped, with a map of its own."""

    def change(mdata: MuData) -> None:
        smm.tl.map_query(mdata, model(), labels="cell_type")
        if basis is not None:
            mdata.obsm[basis] = np.asarray(mdata.obsm["X_scmag"])[:, :2]

    return changed(change)


PICTURES = [
    refused(
        "not mapped",
        "smm.pl.query(mdata, 'cell_type')",
        KeyError,
        "scmag_cell_type",
        "tl.map_query",
        says="names the column and the call that fills it.",
    ),
    refused(
        "labels that were not transferred",
        "smm.pl.query(mdata, 'batch')",
        KeyError,
        "scmag_batch",
        "tl.map_query",
        make=_after(),
        says="names the column and the call that fills it.",
    ),
    refused(
        "no map",
        "smm.pl.query(mdata, 'cell_type')",
        KeyError,
        "X_umap",
        make=_after(None),
        says="names the slot.",
    ),
    refused(
        "a reference without the map",
        "smm.pl.query(mdata, 'cell_type', reference=smm.datasets.simulate_citeseq(n_obs=20, n_vars=20, n_prot=5))",
        KeyError,
        "X_umap",
        make=_after(),
        says="names the slot.",
    ),
    works(
        "a map of its own",
        "smm.pl.query(mdata, 'cell_type')",
        lambda axes, _: len(axes) == 3,
        make=_after(),
        says="Three axes.",
    ),
]

TABLE: dict[str, list[Row]] = {"Queries onto a reference": QUERIES + PICTURES}
