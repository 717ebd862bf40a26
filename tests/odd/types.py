"""Rows about names and health of clusters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update
from tests.odd.labels import odd_labels, one_cell_cluster, with_a_gap
from tests.odd.table import Row, changed, citeseq, finished, refused, works

if TYPE_CHECKING:
    from mudata import MuData

OWN = "{'first': ['g0', 'g1', 'p0'], 'second': ['g8', 'g9', 'p2']}"


def _survives(mdata: MuData) -> bool:
    """Whether what was written can be saved and read."""
    import mudata

    with tempfile.TemporaryDirectory() as folder, no_pull_on_update():
        path = Path(folder) / "saved.h5mu"
        mdata.copy().write_h5mu(path)  # which turns columns of text into categories
        return set(mudata.read_h5mu(path).uns) == set(mdata.uns)


def _named(*types: str, key: str = "scmag_type") -> Any:
    def check(_: object, mdata: MuData) -> bool:
        return set(types) <= set(mdata.obs[key].dropna().astype(str)) and _survives(mdata)

    return check


def _annotated(mdata: MuData) -> None:
    smm.tl.annotate(mdata, markers={"first": ["g0", "g1"], "second": ["g8", "g9"]})


def _empty_cells(mdata: MuData) -> None:
    counts = mdata["rna"].X.toarray()
    counts[:5] = 0
    mdata["rna"].X = counts


ANNOTATION = [
    refused(
        "no clusters",
        f"smm.tl.annotate(mdata, markers={OWN})",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the column and the call that fills it.",
    ),
    refused(
        "genes of no known list",
        "smm.tl.annotate(mdata)",
        ValueError,
        "No type has 2 of its markers",
        "gene_symbols",
        make=finished,
        says="shows names of both.",
    ),
    refused(
        "no markers",
        "smm.tl.annotate(mdata, markers={})",
        ValueError,
        "markers",
        make=finished,
        says="names the argument.",
    ),
    refused(
        "a type without markers",
        "smm.tl.annotate(mdata, markers={'first': []})",
        ValueError,
        "markers",
        make=finished,
        says="names the argument.",
    ),
    refused(
        "one marker in place of a list",
        "smm.tl.annotate(mdata, markers={'first': 'g0', 'second': 'g8'})",
        TypeError,
        "'first'",
        "list",
        make=finished,
        says="names the type.",
    ),
    refused(
        "a weight that is no number",
        "smm.tl.annotate(mdata, markers={'first': {'g0': 'high', 'g1': 1}})",
        ValueError,
        "weight",
        "'high'",
        make=finished,
        says="names the weight.",
    ),
    refused(
        "a list in a file that is not there",
        "smm.tl.annotate(mdata, markers='none.csv')",
        FileNotFoundError,
        "none.csv",
        make=finished,
        says="names the file.",
    ),
    refused(
        "a table without features",
        "smm.tl.annotate(mdata, markers=pd.DataFrame({'type': ['first']}))",
        KeyError,
        "'feature'",
        make=finished,
        says="names the column.",
    ),
    refused(
        "one group",
        f"smm.tl.annotate(mdata, markers={OWN}, groupby='one')",
        ValueError,
        "one group",
        make=changed(lambda mdata: mdata.obs.__setitem__("one", "a"), finished),
        says="a type stands out against others.",
    ),
    refused(
        "no such column of symbols",
        f"smm.tl.annotate(mdata, markers={OWN}, gene_symbols='symbol')",
        KeyError,
        "'symbol'",
        make=finished,
        says="names the column.",
    ),
    refused(
        "a column of the user's under the name",
        f"smm.tl.annotate(mdata, markers={OWN}, key_added='batch')",
        ValueError,
        "'batch'",
        make=finished,
        says="nothing is overwritten.",
    ),
    works(
        "types with slashes and markup",
        "smm.tl.annotate(mdata, markers={'T/NK $x_1$': ['g0', 'g1'], '<b>B</b>': ['g8', 'g9']})",
        _named("T/NK $x_1$", "<b>B</b>"),
        make=finished,
        says="They are kept as they are, and can be saved.",
    ),
    works(
        "a type called unknown",
        "smm.tl.annotate(mdata, markers={'unknown': ['g0', 'g1'], 'second': ['g8', 'g9']})",
        _named("unknown", "second"),
        make=finished,
        says="Its cells and those of no type have one name.",
    ),
    works(
        "cells without a label",
        f"smm.tl.annotate(mdata, markers={OWN}, groupby='mine', min_score=0)",
        lambda _, mdata: mdata.obs["scmag_type"].isna().sum() == 1 and _survives(mdata),
        make=changed(with_a_gap, finished),
        says="They get no type.",
    ),
    works(
        "groups with markup",
        f"smm.tl.annotate(mdata, markers={OWN}, groupby='mine', min_score=0)",
        lambda table, mdata: len(table) == 4 and _survives(mdata),
        make=changed(odd_labels, finished),
        says="They can be saved.",
    ),
    refused(
        "no types",
        "smm.pl.annotation(mdata)",
        KeyError,
        "scmag_type",
        "tl.annotate",
        make=finished,
        says="names the slot and the verb.",
    ),
    refused(
        "no map",
        "smm.pl.annotation(mdata, basis='X_tsne')",
        KeyError,
        "X_tsne",
        make=changed(_annotated, finished),
        says="names the slot.",
    ),
]

HEALTH = [
    refused(
        "no clusters",
        "smm.tl.cluster_qc(mdata)",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the column and the call that fills it.",
    ),
    refused(
        "no such batch column",
        "smm.tl.cluster_qc(mdata, batch_key='plate')",
        KeyError,
        "'plate'",
        make=finished,
        says="names the column.",
    ),
    refused(
        "a seed below zero",
        "smm.tl.cluster_qc(mdata, random_state=-1)",
        ValueError,
        "random_state",
        make=finished,
        says="names the argument.",
    ),
    refused(
        "a column of the user's under the name of the scores",
        "smm.tl.cluster_qc(mdata)",
        ValueError,
        "scmag_doublet_score",
        make=changed(lambda mdata: mdata.obs.__setitem__("scmag_doublet_score", "mine"), finished),
        says="nothing is overwritten.",
    ),
    works(
        "ten cells",
        "smm.tl.cluster_qc(mdata, groupby='mine')",
        lambda table, mdata: table["cells"].tolist() == [1, 9] and _survives(mdata),
        make=changed(lambda mdata: one_cell_cluster(few := mdata[:10].copy()) or few, citeseq),
        says="What so few cells don't tell is missing.",
    ),
    works(
        "cells without a label",
        "smm.tl.cluster_qc(mdata, groupby='mine')",
        lambda table, mdata: table["cells"].sum() == mdata.n_obs - 1 and _survives(mdata),
        make=changed(with_a_gap, finished),
        says="They are of no cluster.",
    ),
    works(
        "cells without counts",
        "smm.tl.cluster_qc(mdata)",
        lambda table, mdata: np.isfinite(table["counts_rna"]).all() and _survives(mdata),
        make=changed(_empty_cells, finished),
        says="A table of all clusters.",
    ),
    works(
        "groups with markup",
        "smm.tl.cluster_qc(mdata, groupby='mine')",
        lambda table, mdata: len(table) == 4 and _survives(mdata),
        make=changed(odd_labels, finished),
        says="They can be saved.",
    ),
]

TABLE: dict[str, list[Row]] = {"Names of clusters": ANNOTATION, "Health of clusters": HEALTH}
