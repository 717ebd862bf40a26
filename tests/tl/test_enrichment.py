from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, hypergeom

import scmag_muon as smm

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

pytest.importorskip("gseapy", reason="gseapy is an optional extra")

SETS = {
    "planted 0": [f"g{i}" for i in range(8)],
    "planted 2": [f"g{i}" for i in range(16, 24)],
    "half of 1": [f"g{i}" for i in range(12, 20)],
    "nobody's": [f"g{i}" for i in range(40, 50)],
    "not measured": ["x", "y", "z"],
}


@pytest.fixture
def gmt(tmp_path: Path) -> Path:
    path = tmp_path / "sets.gmt"
    path.write_text("".join("\t".join([name, "made up", *genes]) + "\n" for name, genes in SETS.items()))
    return path


@pytest.fixture
def ranked(finished: MuData) -> MuData:
    smm.tl.markers(finished)
    return finished


def test_planted_sets_come_first(ranked: MuData, gmt: Path) -> None:
    table = smm.tl.enrichment(ranked, gene_sets=gmt)
    first = table.groupby("cluster").first()
    assert first.loc["0", "gene_set"] == "planted 0"
    assert first.loc["2", "gene_set"] == "planted 2"
    assert first.loc["1", "gene_set"] == "half of 1"
    assert (first.loc[["0", "2"], "p_adjusted"] < 1e-3).all()
    assert set(first.loc["0", "genes"].split(";")) == set(SETS["planted 0"])
    assert "not measured" not in set(table["gene_set"])


def test_p_is_the_hypergeometric_tail(ranked: MuData) -> None:
    table = smm.tl.enrichment(ranked, gene_sets=SETS, n_markers=8)
    markers = ranked.uns["scmag_markers"]["table"]
    for cluster, rows in table.groupby("cluster"):
        good = markers[
            (markers["modality"] == "rna")
            & (markers["cluster"] == cluster)
            & (markers["p_adjusted"] <= 0.05)
            & (markers["auroc"] >= 0.6)
        ]
        chosen = set(good["feature"].head(8))
        for row in rows.itertuples():
            members = set(SETS[row.gene_set])
            assert row.overlap == len(chosen & members)
            assert row.size == len(members)
            assert row.share == row.overlap / row.size
            tail = hypergeom.sf(row.overlap - 1, 60, len(members), len(chosen))
            assert row.p == pytest.approx(tail, rel=1e-6)
        np.testing.assert_allclose(rows["p_adjusted"], false_discovery_control(rows["p"]), rtol=1e-6)


def test_other_names_of_genes(ranked: MuData) -> None:
    ranked["rna"].var["symbol"] = [f"GENE{i}" for i in range(60)]
    sets = {name: [gene.replace("g", "GENE") for gene in genes] for name, genes in SETS.items()}
    by_symbol = smm.tl.enrichment(ranked, gene_sets=sets, gene_symbols="symbol")
    by_name = smm.tl.enrichment(ranked, gene_sets=SETS)
    pd.testing.assert_frame_equal(by_symbol.drop(columns="genes"), by_name.drop(columns="genes"))


def test_markers_of_other_clusters_are_refused(ranked: MuData) -> None:
    ranked.obs["scmag"] = ranked.obs["scmag"].cat.rename_categories({"0": "1", "1": "0"})
    with pytest.raises(
        ValueError, match=r"uns\['scmag_markers'\] is out of date: obs\['scmag'\] has changed. Run scmag_muon.tl.m"
    ):
        smm.tl.enrichment(ranked, gene_sets=SETS)
    smm.tl.markers(ranked)
    table = smm.tl.enrichment(ranked, gene_sets=SETS)
    assert table.groupby("cluster").first().loc["1", "gene_set"] == "planted 0"


def test_survives_saving(ranked: MuData, gmt: Path, tmp_path: Path) -> None:
    table = smm.tl.enrichment(ranked, gene_sets=gmt)
    ranked.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_enrichment"]
    assert back["params"]["gene_sets"] == "sets.gmt"
    assert back["table"]["genes"].tolist() == table["genes"].tolist()


def test_errors(finished: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match=r"No markers in mdata.uns\['scmag_markers'\].*tl.markers"):
        smm.tl.enrichment(finished, gene_sets=SETS)
    smm.tl.markers(finished)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        smm.tl.enrichment(finished, gene_sets=tmp_path / "none.gmt")
    (tmp_path / "empty.gmt").write_text("name only\n")
    with pytest.raises(ValueError, match="holds no gene set"):
        smm.tl.enrichment(finished, gene_sets=tmp_path / "empty.gmt")
    with pytest.raises(ValueError, match="they hold names as 'CD4', the data as 'g0'"):
        smm.tl.enrichment(finished, gene_sets={"a": ["CD4", "CD8A", "CD3E"]})
    with pytest.raises(TypeError, match="`gene_sets` must map names to genes, or name a .gmt file, got list"):
        smm.tl.enrichment(finished, gene_sets=["g0", "g1", "g2"])
    with pytest.raises(KeyError, match="gene_symbols='symbol' names no column"):
        smm.tl.enrichment(finished, gene_sets=SETS, gene_symbols="symbol")
    with pytest.raises(KeyError, match="ranks no features of modality 'atac'"):
        smm.tl.enrichment(finished, gene_sets=SETS, modality="atac")
    monkeypatch.setitem(sys.modules, "gseapy", None)
    with pytest.raises(ImportError, match=r"pip install 'gseapy>=1.1'"):
        smm.tl.enrichment(finished, gene_sets=SETS)
