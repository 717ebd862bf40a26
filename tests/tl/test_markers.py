from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from anndata import AnnData
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

import scmag_muon as smm
from scmag_muon import _values
from scmag_muon._mudata import make_mudata
from scmag_muon.model._clustering import join_communities
from scmag_muon.tl._graph_clusters import fine_communities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData


def dense(mdata: MuData, modality: str) -> np.ndarray:
    values = _values.normalized_counts(mdata, modality, layer=None, key="scmag", across="cells")
    return values.toarray() if sp.issparse(values) else values


def test_planted_markers_come_first_in_both_modalities(finished: MuData) -> None:
    table = smm.tl.markers(finished)
    for k in range(4):
        for modality, prefix, n in (("rna", "g", 8), ("prot", "p", 2)):
            rows = table[(table["cluster"] == str(k)) & (table["modality"] == modality)]
            planted = {f"{prefix}{i}" for i in range(n * k, n * (k + 1))}
            assert set(rows["feature"].head(n)) == planted
            best = rows.head(n)
            assert (best["p_adjusted"] < 1e-3).all()
            assert (best["log2_fold_change"] > 1).all()
            assert (best["auroc"] > 0.75).all()


@pytest.mark.parametrize("reference", ["rest", "2"])
def test_equals_scanpy_and_auroc_equals_sklearn(finished: MuData, reference: str) -> None:
    table = smm.tl.markers(finished, groups=["1"], reference=reference)
    labels = finished.obs["scmag"].astype(str).to_numpy()
    for modality in ("rna", "prot"):
        values = dense(finished, modality)
        theirs = AnnData(values, obs={"group": pd.Categorical(labels)}, var={"name": finished[modality].var_names})
        theirs.var_names = finished[modality].var_names
        sc.tl.rank_genes_groups(theirs, "group", groups=["1"], reference=reference, method="wilcoxon")
        expected = sc.get.rank_genes_groups_df(theirs, "1").set_index("names")
        rows = table[table["modality"] == modality].set_index("feature")
        assert (rows["cluster"] == "1").all()
        expected = expected.loc[rows.index]
        for ours, name in (("score", "scores"), ("log2_fold_change", "logfoldchanges"), ("p_adjusted", "pvals_adj")):
            np.testing.assert_allclose(rows[ours], expected[name], rtol=1e-4, atol=1e-6)
        inside = labels == "1"
        others = ~inside if reference == "rest" else labels == reference
        for i, feature in enumerate(finished[modality].var_names):
            compared = inside | others
            assert rows.at[feature, "auroc"] == pytest.approx(
                roc_auc_score(inside[compared], values[compared, i]), abs=1e-5
            )
            assert rows.at[feature, "share"] == pytest.approx((values[inside, i] > 0).mean())
            assert rows.at[feature, "share_others"] == pytest.approx((values[others, i] > 0).mean())


def test_p_is_scipys_without_ties(finished: MuData) -> None:
    # without ties scanpy's normal approximation is scipy's
    counts = finished["prot"].X.toarray()
    counts[:, 5] = 200 * counts[:, 5] + np.random.default_rng(0).permutation(180)
    finished["prot"].X = sp.csr_matrix(counts)
    table = smm.tl.markers(finished, modalities=["prot"]).set_index(["cluster", "feature"])
    values, labels = dense(finished, "prot"), finished.obs["scmag"].astype(str).to_numpy()
    theirs = mannwhitneyu(
        values[labels == "0", 5], values[labels != "0", 5], method="asymptotic", use_continuity=False
    ).pvalue
    assert table.at[("0", "p5"), "p"] == pytest.approx(theirs, rel=0.01)


def test_survives_saving(finished: MuData, tmp_path: Path) -> None:
    table = smm.tl.markers(finished)
    finished.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_markers"]["table"]
    pd.testing.assert_frame_equal(back.reset_index(drop=True), table, check_dtype=False, check_categorical=False)


def test_the_order_of_the_cells_does_not_matter(finished: MuData) -> None:
    table = smm.tl.markers(finished)
    order = np.random.default_rng(0).permutation(finished.n_obs)
    again = smm.tl.markers(finished[order].copy())
    columns = ["modality", "cluster", "feature"]
    pd.testing.assert_frame_equal(
        table.sort_values(columns, ignore_index=True), again.sort_values(columns, ignore_index=True), rtol=1e-4
    )


def test_pairs_are_kept_apart(finished: MuData) -> None:
    smm.tl.markers(finished)
    forth = smm.tl.markers(finished, groups=["0"], reference="1").set_index(["modality", "feature"])
    back = smm.tl.markers(finished, groups=["1"], reference="0").set_index(["modality", "feature"])
    assert {"scmag_markers", "scmag_markers_0_vs_1", "scmag_markers_1_vs_0"} <= set(finished.uns)
    np.testing.assert_allclose(forth["auroc"], 1 - back["auroc"].reindex(forth.index), atol=1e-5)


def test_one_group_may_be_named_by_itself(finished: MuData) -> None:
    finished.obs["mine"] = np.array(["1", "0", "10"])[np.arange(180) % 3]
    for alone in ("10", 10):
        assert set(smm.tl.markers(finished, groupby="mine", groups=alone)["cluster"]) == {"10"}


def test_a_modality_is_looked_at_once(finished: MuData) -> None:
    with pytest.raises(ValueError, match="`modalities` must name one or more different modalities"):
        smm.tl.markers(finished, modalities=["rna", "rna"])


def test_denoised_layers_are_refused(finished: MuData) -> None:
    with pytest.raises(ValueError, match=r"layers\['scmag'\].*not integers.*raw counts are needed"):
        smm.tl.markers(finished, layer="scmag")
    assert "scmag_markers" not in finished.uns


def test_clusters_of_one_cell(finished: MuData, caplog: pytest.LogCaptureFixture) -> None:
    finished.obs["other"] = ["alone"] + ["a"] * 89 + ["b"] * 90
    with caplog.at_level(logging.WARNING):
        table = smm.tl.markers(finished, groupby="other")
    assert set(table["cluster"]) == {"a", "b"}
    assert "['alone'] of 'other' have one cell only" in caplog.text
    with pytest.raises(ValueError, match="Group 'alone' of 'other' has one cell only"):
        smm.tl.markers(finished, groupby="other", groups=["alone"])


@pytest.mark.parametrize("n_with_proteins", [0, 1])
def test_a_cluster_that_lacks_a_modality_has_markers_in_the_other(
    finished: MuData, n_with_proteins: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = smm.tl.markers(finished)
    mods = {"rna": finished["rna"], "prot": finished["prot"][70 - n_with_proteins :].copy()}
    mdata = make_mudata(mods, finished.obs[["scmag"]])
    table = smm.tl.markers(mdata, modalities=["rna", "prot"])
    assert "Groups ['0'] get no markers in modality 'prot', which too few of their cells have" in caplog.text
    ranked = table.groupby("modality", observed=True)["cluster"].unique()
    assert [sorted(clusters) for clusters in ranked] == [["0", "1", "2", "3"], ["1", "2", "3"]]
    for each in (table, expected):
        each["feature"] = each["feature"].astype(str)
    of_rna = [each[each["modality"] == "rna"].drop(columns="modality") for each in (table, expected)]
    pd.testing.assert_frame_equal(*of_rna, check_categorical=False)
    paired = smm.tl.markers(mdata, modalities=["rna", "prot"], reference="0")
    assert set(paired["modality"]) == {"rna"}
    with pytest.raises(ValueError, match=r"No modality of \['prot'\] has two cells of a group of 'scmag' and others"):
        smm.tl.markers(mdata, modalities=["prot"], groups=["0"])


def test_few_cells_of_a_modality_can_be_ranked(finished: MuData) -> None:
    mods = {"rna": finished["rna"], "prot": finished["prot"][[0, 1, 2, 80, 81, 82]].copy()}
    table = smm.tl.markers(make_mudata(mods, finished.obs[["scmag"]]), modalities=["rna", "prot"])
    assert set(table.loc[table["modality"] == "prot", "cluster"]) == {"0", "1"}


def test_errors_name_the_slot(finished: MuData) -> None:
    with pytest.raises(ValueError, match=r"No group '9' in 'scmag', which has \['0', '1', '2', '3'\]"):
        smm.tl.markers(finished, groups=["9"])
    with pytest.raises(ValueError, match="No group '9'"):
        smm.tl.markers(finished, reference="9")
    with pytest.raises(KeyError, match="No modality 'atac'"):
        smm.tl.markers(finished, modalities=["atac"])
    del finished.obs["scmag"]
    with pytest.raises(KeyError, match=r"No clusters in mdata.obs\['scmag'\]"):
        smm.tl.markers(finished)
    finished.obs["scmag"] = "0"
    with pytest.raises(ValueError, match="'scmag' holds 1 group"):
        smm.tl.markers(finished)


@pytest.mark.real_data
def test_known_biology(real_data: Callable[[str], MuData]) -> None:
    mdata = real_data("pbmc10k_citeseq")
    smm.pp.manifold_fit(mdata)
    fitted = mdata.obsm["X_manifold"]
    clusters = join_communities(torch.as_tensor(fitted), torch.as_tensor(fine_communities(fitted, 8)), 8)
    mdata.obs["scmag"] = pd.Categorical(clusters.numpy().astype(str))
    table = smm.tl.markers(mdata)
    known = mdata.obs["cell_type"].astype(str)
    expected = {
        "B cells": ({"CD79A", "MS4A1"}, "CD19"),
        "CD14+ monocytes": ({"LYZ"}, "CD14"),
        "CD8+ T cells": ({"CD8A"}, "CD8a"),
        "NK cells": ({"NKG7"}, "CD56"),
    }
    for name, (genes, protein) in expected.items():
        inside = mdata.obs["scmag"][(known == name).to_numpy()]
        cluster = inside.value_counts().index[0]
        rows = table[(table["cluster"] == cluster) & (table["p_adjusted"] < 0.01)]
        best = rows[rows["modality"] == "rna"].sort_values("auroc", ascending=False)["feature"]
        assert genes <= set(best.head(25)), f"{name}: {list(best.head(25))}"
        proteins = rows[rows["modality"] == "prot"].sort_values("auroc", ascending=False)["feature"]
        assert proteins.iloc[0] == protein, f"{name}: {list(proteins)}"


@pytest.mark.parametrize("layer", [None, "corrected"])
def test_decimals_have_a_fix_that_works(finished: MuData, layer: str | None) -> None:
    for adata in finished.mod.values():
        counts = adata.X.copy()
        counts.data = counts.data * 0.9 + np.random.default_rng(0).random(counts.nnz).astype(np.float32) * 0.05
        if layer is None:
            adata.X = counts
        else:
            adata.layers[layer] = counts
    for _ in range(2):
        with pytest.raises(ValueError, match="counts with decimals.* Round them: mdata") as caught:
            smm.tl.markers(finished, layer=layer)
        exec(str(caught.value).split("Round them: ")[1].removesuffix("."), {"mdata": finished})
    assert len(smm.tl.markers(finished, layer=layer)) == 4 * 70


def test_the_next_cluster_is_the_second_highest(finished: MuData) -> None:
    counts = finished["prot"].X.toarray()
    labels = finished.obs["scmag"].to_numpy()
    counts[labels == "3", 0] = counts[labels == "0", 0][:20]  # p0 marks clusters 0 and 3
    finished["prot"].X = sp.csr_matrix(counts)
    table = smm.tl.markers(finished).set_index(["cluster", "feature"])
    values = dense(finished, "prot")
    for cluster, expected in (("0", "3"), ("3", "0"), ("1", table.at[("1", "p0"), "next_cluster"])):
        row = table.loc[(cluster, "p0")]
        assert row["next_cluster"] == expected
        level = np.expm1([values[labels == name, 0].mean() for name in (cluster, expected)])
        assert row["log2_fold_change_next"] == pytest.approx(np.log2(level[0] / level[1]), rel=1e-4)
    assert table.at[("0", "p1"), "log2_fold_change_next"] > 2
    assert abs(table.at[("0", "p0"), "log2_fold_change_next"]) < 0.5
    assert table.at[("1", "p0"), "log2_fold_change_next"] < -2


def test_fold_change_and_detection_make_a_marker(finished: MuData) -> None:
    table = smm.tl.markers(finished, min_fold_change=1.5, min_share=0.3)
    expected = (table["log2_fold_change"] >= 1.5) & (table["share"] >= 0.3)
    assert 20 < expected.sum() < 60
    pd.testing.assert_series_equal(table["is_marker"], expected, check_names=False)
    assert not table.loc[table["feature"] == "p9", "is_marker"].any()
    with pytest.raises(ValueError, match="`min_share` must be a number at least 0 and at most 1, got 3"):
        smm.tl.markers(finished, min_share=3)


def test_isotype_controls_measure_noise_and_are_no_markers(finished: MuData) -> None:
    # p0 and p1 mark cluster 0, and the control binds there as much as p1
    names = finished["prot"].var_names.tolist()
    finished["prot"].var_names = [*names[:8], "IgG2a_control", names[9]]
    counts = finished["prot"].X.toarray()
    counts[:, 8] = counts[:, 1] + 1
    finished["prot"].X = sp.csr_matrix(counts)
    table = smm.tl.markers(finished)
    assert "IgG2a_control" not in set(table["feature"])
    rows = table[table["modality"] == "prot"].set_index(["cluster", "feature"])
    inside = finished.obs["scmag"].to_numpy() == "0"
    by_hand = np.log2((counts[inside, 0].mean() + 1) / (counts[inside, 8].mean() + 1))
    assert rows.at[("0", "p0"), "over_controls"] == pytest.approx(by_hand, abs=1e-4)
    assert rows.at[("0", "p1"), "over_controls"] < 0
    assert not rows.at[("0", "p1"), "is_marker"]
    assert rows.at[("1", "p2"), "is_marker"]
    assert table.loc[table["modality"] == "rna", "over_controls"].isna().all()
    with pytest.raises(ValueError, match="All 1 features of modality 'prot' are isotype controls: leave it out"):
        smm.tl.markers(make_mudata({"rna": finished["rna"], "prot": finished["prot"][:, [8]].copy()}, finished.obs))


def test_a_cell_that_lacks_its_proteins_makes_no_other_protein_high(finished: MuData) -> None:
    # cluster 1 keeps few counts but of p8, of which all cells have the same: no marker of it
    counts = finished["prot"].X.toarray()
    inside = finished.obs["scmag"].to_numpy() == "1"
    counts[inside] = np.random.default_rng(0).poisson(0.3, counts[inside].shape)
    counts[:, 8] = np.random.default_rng(1).poisson(5, len(counts))
    finished["prot"].X = sp.csr_matrix(counts)
    row = smm.tl.markers(finished).set_index(["cluster", "feature"]).loc[("1", "p8")]
    assert abs(row["auroc"] - 0.5) < 0.1
    assert not row["is_marker"]
