"""Rows about modalities: how many, how named, which are chosen, and cells that lack some."""

from __future__ import annotations

from typing import Any

import mudata
import numpy as np

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from tests.odd.shapes import RUN, rebuilt
from tests.odd.table import Row, changed, dense, fitted, refused, sound, works


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


def _fitted_without_some(mdata: Any) -> Any:
    lacking = make_mudata({"rna": mdata["rna"].copy(), "prot": mdata["prot"][:30].copy()})
    smm.pp.manifold_fit(lacking)
    return lacking


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
    refused(
        "a modality called `rna/1`",
        RUN,
        ValueError,
        "'rna/1'",
        "slash",
        make=_joined(rna="rna/1", prot="prot"),
        fix="mdata.mod['rna_1'] = mdata.mod.pop('rna/1'); mdata.update()",
        says="a file can't hold the name.",
    ),
    works(
        "fitted, all cells complete",
        "smm.pp.complete_cells(mdata)",
        lambda result, mdata: result.obsm["present"].all() and "present" not in mdata.obsm,
        make=fitted,
        says="A new MuData in which every cell has both.",
    ),
    works(
        "fitted, 10 cells lack proteins",
        "smm.pp.complete_cells(mdata)",
        lambda result, _: result["prot"].shape == (40, 6) and result.obsm["present"].sum(axis=0).tolist() == [40, 30],
        make=changed(_fitted_without_some),
        says="A row for every cell in each modality; zeros and means of neighbours where it was not measured.",
    ),
    refused(
        "10 cells lack proteins, not fitted",
        "smm.pp.complete_cells(mdata)",
        KeyError,
        "'manifold'",
        "pp.manifold_fit",
        make=rebuilt(prot=lambda adata: adata[:30].copy()),
        says="names the call that fits.",
        fix="smm.pp.manifold_fit(mdata, key_added='manifold')",
    ),
    refused(
        "some of the cells that were fitted",
        "smm.pp.complete_cells(mdata[:30])",
        ValueError,
        "other cells of modality 'rna'",
        make=fitted,
        says="names modality and fit.",
        fix="mdata = mdata[:30].copy(); smm.pp.manifold_fit(mdata)",
    ),
]

TABLE: dict[str, list[Row]] = {
    "Modalities": MODALITIES,
}
