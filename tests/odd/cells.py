"""Rows about cells: how many, and how they and features are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmag_muon._mudata import make_mudata
from tests.odd.shapes import FIT, RUN, first_cells, first_genes, named, rebuilt
from tests.odd.table import Row, changed, refused, sound, sound_fit, works

if TYPE_CHECKING:
    from anndata import AnnData

BARCODES = ["".join("ACGT"[i // 4**k % 4] for k in range(12)) for i in range(40)]
ODD_NAMES = ("αβ/γ δ", "a$b_c", "x\\y", "N" * 300)


def _twice(adata: AnnData) -> AnnData:
    adata.var_names = [*adata.var_names[:-1], adata.var_names[0]]
    return adata


def _cells_twice(mdata: Any) -> None:
    for adata in mdata.mod.values():
        adata.obs_names = [*adata.obs_names[:-1], adata.obs_names[0]]


SIZES = [
    works("1 cell", FIT, sound_fit, make=first_cells(1), says="The layer is finite; the cell stays where it is."),
    works("2 cells", FIT, sound_fit, make=first_cells(2), says="The layers are finite."),
    works("2 cells", RUN, sound, make=first_cells(2), says="Both cells have a cluster."),
    works("10 cells", RUN, sound, make=first_cells(10), says="Every cell has a cluster."),
    works("20 cells", RUN, sound, make=first_cells(20), says="Every cell has a cluster."),
    works(
        "20 cells",
        "smm.tl.scmag(mdata, **short)",
        sound,
        make=first_cells(20),
        says="The number of clusters is estimated, every cell has one.",
    ),
    works("1 gene", RUN, sound, make=first_genes(1), says="Every cell has a cluster."),
    works(
        "1 protein",
        RUN,
        sound,
        make=rebuilt(prot=lambda adata: adata[:, :1].copy()),
        says="Every cell has a cluster.",
    ),
    refused(
        "no gene is left",
        FIT,
        ValueError,
        "'rna'",
        "0 features",
        make=rebuilt(rna=lambda adata: adata[:, :0].copy()),
        says="names the modality and its shape.",
    ),
    refused("no cell is left", RUN, ValueError, "no cells|empty", make=first_cells(0), says="there are no cells."),
    refused(
        "2 cells",
        "smm.tl.scmag(mdata, n_clusters=3, **short)",
        ValueError,
        "n_clusters",
        r"\(2\)",
        "3",
        make=first_cells(2),
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
        make=rebuilt(prot=lambda adata: adata[::-1].copy()),
        says="names the modality whose rows would not pair up.",
        fix="mdata = mdata[mdata.obs_names].copy()",
    ),
    works(
        "5 cells lack proteins",
        RUN,
        lambda _, mdata: mdata.obs["scmag"].notna().all() and mdata["prot"].layers["scmag"].shape == (35, 6),
        make=rebuilt(prot=lambda adata: adata[:35].copy()),
        says="All 40 cells have a cluster; what is not measured is imputed.",
    ),
    refused(
        "10 cells have proteins",
        RUN,
        ValueError,
        "'prot'",
        "10 of 40",
        r"modalities=\['rna'\]",
        make=rebuilt(prot=lambda adata: adata[:10].copy()),
        says="too few to learn from; names the modality and how many cells it has.",
    ),
    refused(
        "20 of 40 barcodes of the proteins end otherwise than those of the RNA",
        RUN,
        ValueError,
        "20 cells are shared",
        "Without endings 40 cells match",
        make=rebuilt(
            rna=named("obs", lambda i, _: f"{BARCODES[i]}-1"),
            prot=named("obs", lambda i, _: f"{BARCODES[i]}-{1 + i // 20}"),
        ),
        says="gives the lines that make names equal.",
        fix="""mdata['prot'].obs_names = mdata['rna'].obs_names; mdata = mudata.MuData(mdata.mod)""",
    ),
    refused(
        "barcodes of the proteins end in `-1`",
        RUN,
        ValueError,
        "no cells in common|-1",
        make=rebuilt(prot=named("obs", lambda _, name: f"{name}-1")),
        says="the modalities have no cells in common.",
    ),
    refused(
        "a gene is there twice",
        RUN,
        ValueError,
        "'rna'",
        "not unique",
        "var_names_make_unique",
        make=rebuilt(rna=_twice),
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
        make=rebuilt(rna=named("var", lambda i, name: ("Cd4", "CD4", "cd4")[i] if i < 3 else name)),
        says="They are three genes.",
    ),
    works(
        "gene and protein of one name",
        RUN,
        sound,
        make=rebuilt(
            rna=named("var", lambda i, name: "CD4" if i == 0 else name),
            prot=named("var", lambda i, name: "CD4" if i == 0 else name),
        ),
        says="Every cell has a cluster.",
    ),
    works(
        "genes called `αβ/γ δ`, `a$b_c`, `x\\y`, and one name of 300 letters",
        "smm.tl.markers(mdata, groupby='batch')",
        lambda table, _: set(ODD_NAMES) <= set(table["feature"]),
        make=changed(
            lambda mdata: mdata.obs.__setitem__("batch", ["a", "b"] * 20),
            rebuilt(rna=named("var", lambda i, name: ODD_NAMES[i] if i < 4 else name)),
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
                    name: named("obs", lambda i, _: f"{i}" if i < 20 else f"células/{i} ß")(adata.copy())
                    for name, adata in mdata.mod.items()
                }
            )
        ),
        says="Every cell has a cluster.",
    ),
]

TABLE: dict[str, list[Row]] = {
    "Sizes": SIZES,
    "Names of cells and features": NAMES,
}
