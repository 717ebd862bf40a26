"""Rows about clusters at other levels, and clusters divided further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import scmag_muon as smm
from tests.odd.table import Row, changed, refused, trained, works

if TYPE_CHECKING:
    from mudata import MuData


def _tree_of_one_level(mdata: MuData) -> None:
    smm.tl.cluster_tree(mdata, n_clusters=1)


CUTS = [
    refused(
        "no run",
        "smm.tl.cut(mdata, n_clusters=2)",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
        fix="smm.tl.scmag(mdata, n_clusters=2, **short)",
    ),
    refused(
        "neither number nor height",
        "smm.tl.cut(mdata)",
        ValueError,
        "n_clusters",
        "height",
        make=trained,
        says="names both arguments.",
    ),
    refused(
        "number and height",
        "smm.tl.cut(mdata, n_clusters=2, height=1.0)",
        ValueError,
        "either",
        make=trained,
        says="names both arguments.",
    ),
    refused(
        "`n_clusters=0`",
        "smm.tl.cut(mdata, n_clusters=0)",
        ValueError,
        "n_clusters",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "a height that is no number",
        "smm.tl.cut(mdata, height=float('nan'))",
        ValueError,
        "height",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "more clusters than the tree has",
        "smm.tl.cut(mdata, n_clusters=39)",
        ValueError,
        "n_clusters=39",
        "finest level|not divided further",
        "tl.subcluster",
        make=trained,
        says="gives the finest level, and what goes beyond it.",
    ),
    refused(
        "a column of the user's under the name",
        "smm.tl.cut(mdata, n_clusters=2, key_added='batch')",
        ValueError,
        "'batch'",
        "key_added",
        make=trained,
        says="nothing is overwritten.",
    ),
    refused(
        "leaves that were changed",
        "smm.tl.cut(mdata, n_clusters=2)",
        ValueError,
        "scmag_leaf",
        make=changed(lambda mdata: mdata.obs.__setitem__("scmag_leaf", 0), trained),
        says="names the column and how to make it anew.",
    ),
    works(
        "one cluster",
        "smm.tl.cut(mdata, n_clusters=1)",
        lambda _, mdata: mdata.obs["scmag_1"].tolist() == ["0"] * 40,
        make=trained,
        says="All cells are in it.",
    ),
    works(
        "half of the cells taken out",
        "smm.tl.cut(mdata, n_clusters=2)",
        lambda _, mdata: mdata.obs["scmag_2"].notna().all() and np.isfinite(mdata.obs["scmag_2_confidence"]).all(),
        make=changed(lambda mdata: mdata[:20].copy(), trained),
        says="The level of the cells that are there.",
    ),
]

PARTS = [
    refused(
        "no run",
        "smm.tl.subcluster(mdata, '0')",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
    ),
    refused(
        "a cluster that is not there",
        "smm.tl.subcluster(mdata, 'B cells')",
        ValueError,
        "'B cells'",
        make=trained,
        says="lists the clusters.",
    ),
    refused(
        "a cluster of few cells",
        "smm.tl.subcluster(mdata, mdata.obs['scmag'].iloc[0])",
        ValueError,
        "20 or more",
        make=changed(lambda mdata: mdata[:15].copy(), trained),
        says="says how many are needed.",
    ),
    refused(
        "one part",
        "smm.tl.subcluster(mdata, '0', n_clusters=1)",
        ValueError,
        "n_clusters",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "a column that is of no run",
        "smm.tl.subcluster(mdata, 'batch_0', key='batch')",
        KeyError,
        "'batch'",
        "tl.scmag",
        make=trained,
        says="names the column and the call that makes a run.",
    ),
    works(
        "a cluster by a number",
        "smm.tl.subcluster(mdata, 0, n_clusters=2)",
        lambda _, mdata: (
            {"0,0", "0,1"} <= set(mdata.obs["scmag_sub"])
            and (mdata.obs["scmag_sub"].str.startswith("0") == (mdata.obs["scmag"] == "0")).all()
        ),
        make=trained,
        says="Two parts; the other clusters are as before.",
    ),
]

TREES = [
    refused(
        "no run",
        "smm.tl.cluster_tree(mdata)",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
        fix="smm.tl.scmag(mdata, n_clusters=2, **short)",
    ),
    refused(
        "a level that the tree lacks",
        "smm.tl.cluster_tree(mdata, n_clusters=40)",
        ValueError,
        "n_clusters",
        make=trained,
        says="names the argument and its bounds.",
    ),
    refused(
        "no features",
        "smm.tl.cluster_tree(mdata, n_features=0)",
        ValueError,
        "n_features",
        make=trained,
        says="names the argument.",
    ),
    works(
        "a tree of one level",
        "smm.tl.cluster_tree(mdata, n_clusters=1)",
        lambda table, _: len(table) == 0,
        make=trained,
        says="An empty table: nothing is split.",
    ),
    refused(
        "no table",
        "smm.pl.cluster_tree(mdata)",
        KeyError,
        "scmag_cluster_tree",
        make=trained,
        says="names the slot and the verb.",
        fix="smm.tl.cluster_tree(mdata)",
    ),
    works(
        "a table of one level",
        "smm.pl.cluster_tree(mdata)",
        lambda axes, _: len(axes) == 2,
        make=changed(_tree_of_one_level, trained),
        says="The tree of one cluster.",
    ),
    works(
        "half of the cells taken out",
        "smm.tl.cluster_tree(mdata)",
        lambda table, _: np.isfinite(table["auroc"]).all(),
        make=changed(lambda mdata: mdata[:20].copy(), trained),
        says="The splits of the cells that are there.",
    ),
]

TABLE: dict[str, list[Row]] = {"Trees of clusters": TREES, "Levels of clusters": CUTS, "Parts of a cluster": PARTS}
