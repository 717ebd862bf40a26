"""Rows about markers and enrichment."""

from __future__ import annotations

import numpy as np

from tests.odd.labels import one_cell_cluster, with_a_gap
from tests.odd.table import changed, finished, refused, trained, works

SETS = "{'one': ['g0', 'g1', 'g2', 'g3']}"

MARKERS = [
    refused(
        "no column of samples",
        "smm.tl.pseudobulk_markers(mdata, sample_key='donor')",
        KeyError,
        "'donor'",
        make=finished,
        says="names the column.",
    ),
    refused(
        "a cell without a sample",
        "smm.tl.pseudobulk_markers(mdata, sample_key='mine')",
        ValueError,
        "'mine' is missing for 1 cells",
        make=changed(with_a_gap, finished),
        fix="mdata = mdata[mdata.obs['mine'].notna().to_numpy()].copy()",
        says="counts such cells and names the first.",
    ),
    refused(
        "no such group of samples",
        "smm.tl.pseudobulk_markers(mdata, sample_key='batch', groups=['9'])",
        ValueError,
        "'9'",
        make=finished,
        says="lists the groups.",
    ),
    refused(
        "no run",
        "smm.tl.markers(mdata)",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
    ),
    refused(
        "no such group",
        "smm.tl.markers(mdata, groups=['9'])",
        ValueError,
        "'9'",
        "'3'",
        make=finished,
        says="lists the groups.",
    ),
    refused(
        "no such reference",
        "smm.tl.markers(mdata, groups=['0'], reference='9')",
        ValueError,
        "'9'",
        make=finished,
        says="lists the groups.",
    ),
    refused(
        "a group of one cell",
        "smm.tl.markers(mdata, groupby='mine', groups=['alone'])",
        ValueError,
        "'alone'",
        "one cell",
        make=changed(one_cell_cluster, finished),
        says="names the group.",
    ),
    refused(
        "one group",
        "smm.tl.markers(mdata, groupby='one')",
        ValueError,
        "'one'",
        "1 group",
        make=changed(lambda mdata: mdata.obs.__setitem__("one", "a"), finished),
        says="two groups are needed.",
    ),
    works(
        "a cell without a label",
        "smm.tl.markers(mdata, groupby='mine')",
        lambda table, _: len(table) == 140 and np.isfinite(table["auroc"]).all(),
        make=changed(with_a_gap, finished),
        says="It is left out.",
        writes=["uns/scmag_markers"],
    ),
    refused(
        "denoised counts as counts",
        "smm.tl.markers(mdata, layer='scmag')",
        ValueError,
        "scmag",
        make=finished,
        says="raw counts are needed.",
    ),
    refused(
        "no markers",
        "smm.tl.enrichment(mdata, gene_sets=" + SETS + ")",
        KeyError,
        "scmag_markers",
        "tl.markers",
        make=trained,
        says="names the slot and the call that fills it.",
    ),
    refused(
        "gene sets of another species",
        "smm.tl.enrichment(mdata, gene_sets={'one': ['Cd4', 'Cd8a', 'Cd3e']})",
        ValueError,
        "'Cd4'",
        "'g0'",
        make=finished,
        says="shows a name of the sets and one of the data.",
    ),
    refused(
        "no such file",
        "smm.tl.enrichment(mdata, gene_sets='none.gmt')",
        FileNotFoundError,
        "none.gmt",
        make=finished,
        says="names the file.",
    ),
    works(
        "a set that holds every marker",
        "smm.tl.enrichment(mdata, gene_sets=" + SETS + ")",
        lambda table, _: len(table) > 0 and table["p"].between(0, 1).all(),
        make=finished,
        says="p lies between 0 and 1.",
    ),
]
