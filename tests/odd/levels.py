"""Rows about clusters at other levels, and clusters divided further."""

from __future__ import annotations

import numpy as np

from tests.odd.table import Row, changed, refused, trained, works

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

TABLE: dict[str, list[Row]] = {"Levels of clusters": CUTS, "Parts of a cluster": PARTS}
