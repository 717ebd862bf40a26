from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from scmag_muon.tl._derived import forget_derived

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def with_doublet_cluster() -> MuData:
    """B cells, CD4 T cells, monocytes, and a cluster of B-T doublets: CD19, MS4A1, CD3 and CD4, twice the counts."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["B", "T", "monocyte", "doublets"], [120, 150, 100, 25])
    own = {"B": range(25), "T": range(25, 50), "monocyte": range(50, 75)}
    genes = [
        "MS4A1",
        *(f"b{i}" for i in range(24)),
        "CD3E",
        *(f"t{i}" for i in range(24)),
        *(f"m{i}" for i in range(25)),
    ]
    genes += [f"x{i}" for i in range(60)]
    proteins = ["CD19", "CD3", "CD4", "CD14", "IgG1"]
    of_proteins = {"B": [0], "T": [1, 2], "monocyte": [3]}
    rates = {"rna": np.full((len(labels), len(genes)), 0.5), "prot": np.full((len(labels), 5), 6.0)}
    for name in own:
        rows = labels == name
        rates["rna"][np.ix_(rows, own[name])] = 3.0
        rates["prot"][np.ix_(rows, of_proteins[name])] = 150.0
    for name, rate in rates.items():
        rate[labels == "doublets"] = rate[0] + rate[120]
        rates[name] = rate
    mods = {
        name: AnnData(sp.csr_matrix(rng.poisson(rates[name]).astype(np.float32)), var=pd.DataFrame(index=names))
        for name, names in (("rna", genes), ("prot", proteins))
    }
    return make_mudata(mods, pd.DataFrame({"scmag": pd.Categorical(labels)}, index=mods["rna"].obs_names))


def test_a_cluster_of_doublets_is_flagged_and_no_other() -> None:
    mdata = with_doublet_cluster()
    table = smm.tl.cluster_qc(mdata)
    assert table["flags"].to_dict() == {"B": "", "T": "", "doublets": "doublets", "monocyte": ""}
    assert table.at["doublets", "counts_prot"] > 1.7 * table.at["T", "counts_prot"] / 2
    scores = mdata.obs["scmag_doublet_score"]
    assert table.at["doublets", "doublet_score"] == pytest.approx(scores[mdata.obs["scmag"] == "doublets"].mean())
    assert table.at["doublets", "doublets"] == (scores[mdata.obs["scmag"] == "doublets"] >= 0.5).mean()


def test_figures_by_hand(finished: MuData) -> None:
    names = finished["rna"].var_names.tolist()
    finished["rna"].var_names = ["MT-CO1", "MT-ND1", *names[2:]]
    table = smm.tl.cluster_qc(finished)
    inside = finished.obs["scmag"].to_numpy() == "0"
    counts = finished["rna"].X.toarray()
    assert table.at["0", "cells"] == inside.sum()
    assert table.at["0", "counts_rna"] == np.median(counts.sum(axis=1)[inside])
    assert table.at["0", "features_prot"] == np.median((finished["prot"].X.toarray() > 0).sum(axis=1)[inside])
    share = counts[:, :2].sum(axis=1) / counts.sum(axis=1)
    assert table.at["0", "mitochondrial"] == pytest.approx(share[inside].mean(), rel=1e-5)
    assert table.at["0", "confidence"] == pytest.approx(finished.obs["scmag_confidence"][inside].mean())
    assert table.at["0", "batch"] == "b"
    assert table.at["0", "batch_share"] == pytest.approx((finished.obs["batch"][inside] == "b").mean())
    # clusters 2 and 3 lie next to each other in X_scmag
    assert table.loc[["2", "3"], "nearest_cluster"].tolist() == ["3", "2"]
    two, three = (finished.obsm["X_scmag"][(finished.obs["scmag"] == name).to_numpy()] for name in "23")
    line = three.mean(axis=0) - two.mean(axis=0)
    along = [each @ line / np.linalg.norm(line) for each in (two, three)]
    error = np.sqrt(sum(each.var(ddof=1) / len(each) for each in along))
    assert table.at["2", "standard_errors"] == pytest.approx(np.linalg.norm(line) / error, rel=1e-4)
    assert table["stability"].isna().all()


def test_flags(finished: MuData) -> None:
    finished.obs["batch"] = np.where(finished.obs["scmag"] == "1", "a", np.where(np.arange(180) % 2, "a", "b"))
    counts = finished["rna"].X.toarray()
    counts[finished.obs["scmag"] == "2"] = np.random.default_rng(0).poisson(0.1, (40, 60))
    finished["rna"].X = sp.csr_matrix(counts)
    finished["rna"].var_names = ["MT-CO1", *finished["rna"].var_names[1:]]
    counts[finished.obs["scmag"] == "0", 0] += 100
    finished["rna"].X = sp.csr_matrix(counts)
    labels = finished.obs["scmag"].astype(str)
    finished.obs["scmag"] = labels.where(np.arange(180) != 1, "9").astype("category")
    flags = smm.tl.cluster_qc(finished)["flags"].str.split(";")
    assert "one batch" in flags["1"]
    assert "low counts" in flags["2"]
    assert "mitochondrial" in flags["0"]
    assert "few cells" in flags["9"]
    assert "one batch" not in flags["0"]
    assert "few cells" not in flags["0"]


def test_it_is_saved_and_goes_with_the_run(finished: MuData, tmp_path: Path) -> None:
    table = smm.tl.cluster_qc(finished)
    finished.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_cluster_qc"]["table"]
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    forget_derived(finished, "scmag")
    assert "scmag_cluster_qc" not in finished.uns
    assert "scmag_doublet_score" not in finished.obs


def test_nothing_of_the_user_is_overwritten(finished: MuData) -> None:
    finished.obs["scmag_doublet_score"] = 1.0
    with pytest.raises(ValueError, match=r"mdata.obs\['scmag_doublet_score'\] is there already"):
        smm.tl.cluster_qc(finished)
    assert "scmag_cluster_qc" not in finished.uns
    with pytest.raises(KeyError, match="No clusters in mdata.obs"):
        smm.tl.cluster_qc(finished, groupby="none")
