"""Rows about batches."""

from __future__ import annotations

import pandas as pd

from tests.odd.table import Row, changed, column, finished, refused, sound, sound_fit, works

BATCHES = [
    refused(
        "no such column",
        "smm.tl.scmag(mdata, batch_key='plate', **short)",
        KeyError,
        "batch_key='plate'",
        "'batch'",
        says="lists the columns that are there.",
    ),
    refused(
        "two cells have no batch",
        "smm.tl.scmag(mdata, batch_key='run', **short)",
        ValueError,
        "'run'",
        "2 cells",
        make=column("run", [None, None, *"ab" * 19]),
        says="names the column and how many cells lack it.",
    ),
    works(
        "every cell in one batch",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", ["a"] * 40),
        says="Every cell has a cluster.",
    ),
    works(
        "every cell its own batch",
        "smm.pp.manifold_fit(mdata, batch_key='run')",
        sound_fit,
        make=column("run", [f"b{i}" for i in range(40)]),
        says="The layers are finite; a warning says that nothing is left of the cells.",
    ),
    works(
        "batches are numbers and text mixed",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", [1, "b"] * 20),
        says="They are taken as text.",
    ),
    works(
        "batches are nullable integers",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", pd.array([1, 2] * 20, dtype="Int64")),
        says="They are taken as text.",
    ),
    works(
        "the column is in the RNA alone",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", ["a", "b"] * 20, "rna"),
        says="It is found there.",
    ),
    works(
        "a category that no cell has",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", pd.Categorical(["a", "b"] * 20, categories=["a", "b", "never"])),
        says="It is left out.",
    ),
    works(
        "batches with slashes, dollars and 200 letters",
        "smm.tl.scmag(mdata, batch_key='run', n_clusters=2, **short)",
        sound,
        make=column("run", ["donor/1 $x$", "é" * 200] * 20),
        says="Every cell has a cluster.",
    ),
    refused(
        "one batch only",
        "smm.tl.batch_mixing(mdata, batch_key='one')",
        ValueError,
        "one batch",
        make=changed(lambda mdata: mdata.obs.__setitem__("one", "a"), finished),
        says="nothing can mix.",
    ),
]

TABLE: dict[str, list[Row]] = {
    "Batches": BATCHES,
}
