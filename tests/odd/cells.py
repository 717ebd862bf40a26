"""Rows about cells, features and modalities: how many, how named, which pair up."""

from __future__ import annotations

from typing import Any

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData

from scmag_muon._mudata import make_mudata, no_pull_on_update
from tests.odd.table import (
    Row,
    changed,
    column,
    dense,
    finished,
    refused,
    sound,
    sound_fit,
    with_counts,
    works,
)

FIT = "smm.pp.manifold_fit(mdata)"
BARCODES = ["".join("ACGT"[i // 4**k % 4] for k in range(12)) for i in range(40)]
ODD_NAMES = ("αβ/γ δ", "a$b_c", "x\\y", "N" * 300)
RUN = "smm.tl.scmag(mdata, n_clusters=2, **short)"


def _first(n: int) -> Any:
    return changed(lambda mdata: mdata[:n].copy())


def _features(n: int) -> Any:
    return changed(lambda mdata: make_mudata({"rna": mdata["rna"][:, :n].copy(), "prot": mdata["prot"]}, mdata.obs))


def _rebuilt(rna: Any = None, prot: Any = None) -> Any:
    """The shared cells with a modality after a change."""

    def change(mdata: Any) -> Any:
        mods = {"rna": mdata["rna"].copy(), "prot": mdata["prot"].copy()}
        for name, alter in (("rna", rna), ("prot", prot)):
            mods[name] = mods[name] if alter is None else alter(mods[name])
        return make_mudata(mods)

    return changed(change)


def _named(axis: str, names: Any) -> Any:
    def alter(adata: AnnData) -> AnnData:
        setattr(adata, f"{axis}_names", [names(i, name) for i, name in enumerate(getattr(adata, f"{axis}_names"))])
        return adata

    return alter


def _joined(**names: str) -> Any:
    """The two modalities under other names."""
    return changed(lambda mdata: make_mudata({new: mdata[old] for old, new in names.items()}, mdata.obs))


def _three(mdata: Any) -> Any:
    return make_mudata({**mdata.mod, "atac": mdata["rna"].copy()}, mdata.obs)


def _features_shared(mdata: Any) -> Any:
    other = mdata["rna"].copy()
    other.obs_names = [f"other_{i}" for i in range(other.n_obs)]
    with no_pull_on_update():
        return mudata.MuData({"rna": mdata["rna"].copy(), "more": other}, axis=1)


def _twice(adata: AnnData) -> AnnData:
    adata.var_names = [*adata.var_names[:-1], adata.var_names[0]]
    return adata


def _cells_twice(mdata: Any) -> None:
    for adata in mdata.mod.values():
        adata.obs_names = [*adata.obs_names[:-1], adata.obs_names[0]]


SIZES = [
    works("1 cell", FIT, sound_fit, make=_first(1), says="The layer is finite; the cell stays where it is."),
    works("2 cells", FIT, sound_fit, make=_first(2), says="The layers are finite."),
    works("2 cells", RUN, sound, make=_first(2), says="Both cells have a cluster."),
    works("10 cells", RUN, sound, make=_first(10), says="Every cell has a cluster."),
    works("20 cells", RUN, sound, make=_first(20), says="Every cell has a cluster."),
    works(
        "20 cells",
        "smm.tl.scmag(mdata, **short)",
        sound,
        make=_first(20),
        says="The number of clusters is estimated, every cell has one.",
    ),
    works("1 gene", RUN, sound, make=_features(1), says="Every cell has a cluster."),
    works(
        "1 protein",
        RUN,
        sound,
        make=_rebuilt(prot=lambda adata: adata[:, :1].copy()),
        says="Every cell has a cluster.",
    ),
    refused(
        "no gene is left",
        FIT,
        ValueError,
        "'rna'",
        "0 features",
        make=_rebuilt(rna=lambda adata: adata[:, :0].copy()),
        says="names the modality and its shape.",
    ),
    refused("no cell is left", RUN, ValueError, "no cells|empty", make=_first(0), says="there are no cells."),
    refused(
        "2 cells",
        "smm.tl.scmag(mdata, n_clusters=3, **short)",
        ValueError,
        "n_clusters",
        r"\(2\)",
        "3",
        make=_first(2),
        says="there can't be more clusters than cells, and it says how many there are.",
    ),
    works(
        "4 cells set aside by the user as a view",
        "smm.tl.scmag(mdata[:4], n_clusters=2, copy=True, **short)",
        lambda result, mdata: sound(None, result) and result.n_obs == 4 and "scmag" not in mdata.obs,
        says="The copy has 4 cells with clusters; the whole MuData is as before.",
    ),
]

NAMES = [
    refused(
        "proteins in another order of cells",
        RUN,
        ValueError,
        "'prot'",
        "another order",
        make=_rebuilt(prot=lambda adata: adata[::-1].copy()),
        says="names the modality whose rows would not pair up.",
        fix="mdata = mdata[mdata.obs_names].copy()",
    ),
    works(
        "5 cells lack proteins",
        RUN,
        lambda _, mdata: mdata.obs["scmag"].notna().all() and mdata["prot"].layers["scmag"].shape == (35, 6),
        make=_rebuilt(prot=lambda adata: adata[:35].copy()),
        says="All 40 cells have a cluster; what is not measured is imputed.",
    ),
    refused(
        "10 cells have proteins",
        RUN,
        ValueError,
        "'prot'",
        "10 of 40",
        r"modalities=\['rna'\]",
        make=_rebuilt(prot=lambda adata: adata[:10].copy()),
        says="too few to learn from; names the modality and how many cells it has.",
    ),
    refused(
        "20 of 40 barcodes of the proteins end otherwise than those of the RNA",
        RUN,
        ValueError,
        "20 cells are shared",
        "Without endings 40 cells match",
        make=_rebuilt(
            rna=_named("obs", lambda i, _: f"{BARCODES[i]}-1"),
            prot=_named("obs", lambda i, _: f"{BARCODES[i]}-{1 + i // 20}"),
        ),
        says="gives the lines that make names equal.",
        fix="""mdata['prot'].obs_names = mdata['rna'].obs_names; mdata = mudata.MuData(mdata.mod)""",
    ),
    refused(
        "barcodes of the proteins end in `-1`",
        RUN,
        ValueError,
        "no cells in common|-1",
        make=_rebuilt(prot=_named("obs", lambda _, name: f"{name}-1")),
        says="the modalities have no cells in common.",
    ),
    refused(
        "a gene is there twice",
        RUN,
        ValueError,
        "'rna'",
        "not unique",
        "var_names_make_unique",
        make=_rebuilt(rna=_twice),
        says="names the modality and the call that makes names unique.",
        fix='mdata["rna"].var_names_make_unique()',
    ),
    refused(
        "a cell is there twice",
        RUN,
        ValueError,
        "not unique",
        make=changed(_cells_twice),
        says="names of cells are not unique.",
    ),
    works(
        "names that differ in case only: `Cd4`, `CD4`",
        RUN,
        sound,
        make=_rebuilt(rna=_named("var", lambda i, name: ("Cd4", "CD4", "cd4")[i] if i < 3 else name)),
        says="They are three genes.",
    ),
    works(
        "gene and protein of one name",
        RUN,
        sound,
        make=_rebuilt(
            rna=_named("var", lambda i, name: "CD4" if i == 0 else name),
            prot=_named("var", lambda i, name: "CD4" if i == 0 else name),
        ),
        says="Every cell has a cluster.",
    ),
    works(
        "genes called `αβ/γ δ`, `a$b_c`, `x\\y`, and one name of 300 letters",
        "smm.tl.markers(mdata, groupby='batch')",
        lambda table, _: set(ODD_NAMES) <= set(table["feature"]),
        make=changed(
            lambda mdata: mdata.obs.__setitem__("batch", ["a", "b"] * 20),
            _rebuilt(rna=_named("var", lambda i, name: ODD_NAMES[i] if i < 4 else name)),
        ),
        says="The table has them as they are.",
    ),
    works(
        "cells called `0`, `1`, … and Unicode barcodes",
        RUN,
        sound,
        make=changed(
            lambda mdata: make_mudata(
                {
                    name: _named("obs", lambda i, _: f"{i}" if i < 20 else f"células/{i} ß")(adata.copy())
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster.",
    ),
]

MODALITIES = [
    refused(
        "an AnnData", "smm.pp.manifold_fit(mdata['rna'])", TypeError, "MuData", "AnnData", says="says how to join."
    ),
    refused("a path", "smm.tl.scmag('cells.h5mu')", TypeError, "MuData", "str", says="a MuData is needed."),
    refused("nothing", "smm.tl.markers(None)", TypeError, "MuData|mdata", says="a MuData is needed."),
    works(
        "three modalities",
        RUN,
        lambda _, mdata: all(np.isfinite(dense(adata.layers["scmag"])).all() for adata in mdata.mod.values()),
        make=changed(_three),
        says="All three take part.",
    ),
    works(
        "three modalities, one named",
        "smm.tl.scmag(mdata, modalities=['rna'], n_clusters=2, **short)",
        lambda _, mdata: "scmag" not in mdata["prot"].layers and mdata.obs["scmag"].notna().all(),
        make=changed(_three),
        says="The others are left alone.",
    ),
    refused(
        "no modality is named",
        "smm.tl.scmag(mdata, modalities=[], **short)",
        ValueError,
        "modalities",
        says="one or more must be named.",
    ),
    works(
        "three modalities, two named",
        "smm.tl.scmag(mdata, modalities=['rna', 'prot'], n_clusters=2, **short)",
        lambda _, mdata: "scmag" not in mdata["atac"].layers and mdata.obs["scmag"].notna().all(),
        make=changed(_three),
        says="The third is left alone.",
    ),
    refused(
        "a modality that is not there",
        "smm.tl.scmag(mdata, modalities=['rna', 'adt'], **short)",
        KeyError,
        "'adt'",
        r"\['rna', 'prot'\]",
        says="lists the modalities that are there.",
    ),
    refused(
        "the same modality twice",
        "smm.pp.manifold_fit(mdata, modalities=['rna', 'rna'])",
        ValueError,
        "different",
        says="they must differ.",
    ),
    refused(
        "features shared, not cells",
        RUN,
        ValueError,
        "axis=1",
        make=changed(_features_shared),
        says="the MuData must share its cells.",
    ),
    works(
        "modalities called `b` and `a`",
        RUN,
        sound,
        make=_joined(rna="b", prot="a"),
        says="Every cell has a cluster.",
    ),
    works(
        "modalities called `RNA 1 (α)` and `ADT β`",
        RUN,
        sound,
        make=_joined(rna="RNA 1 (α)", prot="ADT β"),
        says="Every cell has a cluster.",
    ),
]

FEATURES = [
    works(
        "a gene without a count",
        FIT,
        lambda _, mdata: not mdata["rna"].var["manifold"].iloc[0] and sound_fit(None, mdata),
        make=with_counts(lambda x: x * (np.arange(20) > 0)),
        says="It takes no part.",
    ),
    works(
        "a gene with the same count in every cell",
        FIT,
        sound_fit,
        make=with_counts(lambda x: np.where(np.arange(20) == 0, np.float32(7), x)),
        says="The layers are finite.",
    ),
    works(
        "a cell without any RNA",
        RUN,
        sound,
        make=with_counts(lambda x: x * (np.arange(40) > 0)[:, None]),
        says="It has a cluster by its proteins.",
    ),
    works(
        "a cell without any count at all",
        RUN,
        sound,
        make=changed(
            lambda mdata: make_mudata(
                {
                    name: AnnData(adata.X.toarray() * (np.arange(40) > 0)[:, None], obs=adata.obs, var=adata.var)
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster.",
    ),
    works(
        "every count of the RNA is 3",
        RUN,
        sound,
        make=with_counts(lambda x: np.full_like(x, 3)),
        says="Every cell has a cluster by its proteins.",
    ),
    works(
        "40 copies of one cell",
        RUN,
        sound,
        make=changed(
            lambda mdata: make_mudata(
                {
                    name: AnnData(np.repeat(adata.X[:1].toarray(), 40, axis=0), obs=adata.obs, var=adata.var)
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster; nothing is divided by a distance of 0.",
    ),
    refused(
        "`mask_var` names no column",
        "smm.pp.manifold_fit(mdata, mask_var='chosen')",
        KeyError,
        "mask_var='chosen'",
        "'rna'",
        says="names argument and modalities.",
    ),
    refused(
        "`highly_variable` is false everywhere",
        FIT,
        ValueError,
        "'rna'",
        "highly_variable",
        make=changed(lambda mdata: mdata["rna"].var.__setitem__("highly_variable", False)),
        says="names modality and column.",
        fix="del mdata['rna'].var['highly_variable']",
    ),
    works(
        "`highly_variable` holds true and nothing",
        FIT,
        lambda _, mdata: mdata["rna"].var["manifold"].tolist() == [True, False] * 10 and sound_fit(None, mdata),
        make=changed(
            lambda mdata: mdata["rna"].var.__setitem__(
                "highly_variable", pd.Series([True, None] * 10, dtype=object).to_numpy()
            )
        ),
        says="Genes that are missing there are not chosen.",
    ),
    works(
        "`highly_variable` is a nullable boolean without gaps",
        FIT,
        lambda _, mdata: mdata["rna"].var["manifold"].sum() == 10,
        make=changed(
            lambda mdata: mdata["rna"].var.__setitem__("highly_variable", pd.array([True, False] * 10, dtype="boolean"))
        ),
        says="It is taken.",
    ),
]

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
    "Sizes": SIZES,
    "Names of cells and features": NAMES,
    "Modalities": MODALITIES,
    "Features": FEATURES,
    "Batches": BATCHES,
}
