"""The page of a query that was mapped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mudata as md
import pytest

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from scmag_muon._report._doubts import doubts
from scmag_muon._report._methods import text_and_references
from scmag_muon.model import SCMAG

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


@pytest.fixture(scope="module")
def cells() -> tuple[SCMAG, MuData, MuData]:
    """A model of simulated cells, that reference without its third type's labels, and other cells."""
    whole = smm.datasets.simulate_citeseq(n_obs=200, n_vars=40, n_prot=10, n_clusters=3)
    with no_pull_on_update():
        reference, query = whole[:140].copy(), whole[140:].copy()
    third = reference.obs["cell_type"] == reference.obs["cell_type"].cat.categories[2]
    reference.obs["annotation"] = reference.obs["cell_type"].astype(object).where(~third, None)
    brief: dict[str, Any] = {"max_epochs_pretrain": 3, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}
    model = smm.tl.scmag(reference, n_clusters=3, return_model=True, **brief)
    assert isinstance(model, SCMAG)
    return model, reference, query


def test_the_page_of_a_query_shows_labels_and_says_how_they_were_made(
    cells: tuple[SCMAG, MuData, MuData], tmp_path: Path
) -> None:
    model, reference, query = cells
    mapped = make_mudata({"rna": query["rna"].copy(), "prot": query["prot"][:, ::3].copy()}, query.obs)
    reference.obsm["X_map"] = reference.obsm["X_manifold"][:, :2]
    smm.tl.map_query(mapped, reference, model=model, labels=["annotation", "cell_type"], basis="X_map")
    mapped.uns["scmag"]["shared_features"] = {**mapped.uns["scmag"]["shared_features"], "prot": 3}
    mapped.write_h5mu(tmp_path / "mapped.h5mu")
    with no_pull_on_update():
        again = md.read_h5mu(tmp_path / "mapped.h5mu")
    for each in (mapped, again):
        page = smm.report(each, tmp_path / "page.html").read_text(encoding="utf-8")
        assert ">Mapped onto a reference</h2>" in page
        assert "mapped onto a reference by scMAG" in page
        assert "Parameters of scmag_muon.tl.map_query." in page
        assert "cells of the reference" in page
        assert ">4, of which 3 took part<" in page  # features that the reference has too
        known = json.loads(page.split('id="map-data">')[1].split("</script>")[0])
        told = [column["name"] for column in known["columns"]][:3]
        assert told == ["cluster", "annotation (transferred)", "cell_type (transferred)"]
        for column in ("annotation", "cell_type"):
            assert f"Three maps of the query: {column} as transferred" in page
            for label, size in each.obs[f"scmag_{column}"].value_counts().items():
                assert f'<th scope="row">{label}</th><td>{size}</td>' in page
        text, references = text_and_references(each, "scmag", None)
        assert "60 cells" in text
        assert "reference of 140 cells" in text
        assert "annotation, cell_type" in text
        assert "was trained on them" not in text
        assert len(references) >= 2


def test_what_the_query_lacks_and_what_is_unknown_is_told(cells: tuple[SCMAG, MuData, MuData]) -> None:
    model, _, query = cells
    rna = make_mudata({"rna": query["rna"][:, :15].copy()}, query.obs)
    rna.obs["sample"] = "new"
    smm.tl.map_query(rna, model, labels="annotation")
    told = " ".join(doubts(rna, "scmag", None))
    assert "Only 15 of the reference's 40 features of rna were measured" in told
    assert "The query has no prot" in told
    rna.obs["scmag_annotation_unlikeness"] = 1.5
    assert "100% of the cells are unlike the reference's cells with a known annotation" in " ".join(
        doubts(rna, "scmag", None)
    )
    whole = make_mudata({name: query[name].copy() for name in ("rna", "prot")}, query.obs)
    smm.tl.map_query(whole, model)
    told = " ".join(doubts(whole, "scmag", None))
    assert "The query has" not in told
    assert "features of" not in told
