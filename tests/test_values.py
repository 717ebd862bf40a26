from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon import _values
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from mudata import MuData


def test_rna_is_normalised_as_scanpy_does(finished: MuData) -> None:
    counts = sp.csr_array(finished["rna"].X)
    theirs = AnnData(finished["rna"].X.copy())
    sc.pp.normalize_total(theirs)
    sc.pp.log1p(theirs)
    np.testing.assert_allclose(_values.normalize(counts, "rna").toarray(), theirs.X.toarray(), rtol=1e-5)


@pytest.mark.parametrize(("across", "axis"), [("features", 1), ("cells", 0)])
def test_proteins_are_normalised_as_muon_does(finished: MuData, across: _values.Across, axis: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # muon's imports
        import muon
    theirs = AnnData(finished["prot"].X.toarray())
    muon.prot.pp.clr(theirs, axis=axis)
    np.testing.assert_allclose(
        _values.normalize(sp.csr_array(finished["prot"].X), "protein", across=across), np.asarray(theirs.X), rtol=1e-5
    )


def test_single_features_equal_those_of_the_whole_matrix(finished: MuData) -> None:
    features = [_values.Feature("rna", "g5"), _values.Feature("prot", "p3"), _values.Feature("rna", "g0")]
    found = _values.normalized_features(finished, features, key="scmag")
    assert list(found) == [features[0], features[2], features[1]]
    for modality, name in (("rna", "g5"), ("rna", "g0"), ("prot", "p3")):
        whole = _values.normalized_counts(finished, modality, layer=None, key="scmag")
        column = whole[:, [finished[modality].var_names.get_loc(name)]]
        column = column.toarray() if sp.issparse(column) else column
        np.testing.assert_allclose(found[_values.Feature(modality, name)], column.ravel(), rtol=1e-6)


def test_cells_without_counts_stay_zero() -> None:
    counts = sp.csr_array(np.array([[0.0, 0.0], [3.0, 1.0]]))
    for kind in ("rna", "protein"):
        values = _values.normalize(counts, kind)
        values = values.toarray() if sp.issparse(values) else values
        assert np.isfinite(values).all()
        assert (values[0] == 0).all()


def test_features_by_name(finished: MuData) -> None:
    both = ["rna", "prot"]
    assert _values.find_feature(finished, "g5", both) == _values.Feature("rna", "g5")
    assert _values.find_feature(finished, "prot:p5", both) == _values.Feature("prot", "p5")
    with pytest.raises(KeyError, match=r"No feature 'g5' in the modalities \['prot'\]"):
        _values.find_feature(finished, "g5", ["prot"])
    finished["prot"].var_names = ["g5", *finished["prot"].var_names[1:]]
    with pytest.raises(ValueError, match="More than one modality has a feature 'g5': say 'rna:g5' or 'prot:g5'"):
        _values.find_feature(finished, "g5", both)
    assert _values.find_feature(finished, "prot:g5", both) == _values.Feature("prot", "g5")


def test_cells_without_coordinates_are_named(finished: MuData) -> None:
    np.testing.assert_array_equal(_values.clustering_space(finished, "scmag"), finished.obsm["X_scmag"])
    finished.obsm["X_manifold_unfitted"] = np.where(np.arange(180)[:, None] == 7, np.nan, np.ones((180, 3)))
    with pytest.raises(
        ValueError, match="no coordinates of 1 of 180 cells, the first is 'cell7'.*Make it anew with scmag_muon.pp"
    ):
        smm.tl.n_clusters(finished)


def test_modalities_that_were_renamed_or_taken_out(finished: MuData, caplog: pytest.LogCaptureFixture) -> None:
    renamed = make_mudata({"gex": finished["rna"], "prot": finished["prot"]}, finished.obs)
    renamed.uns["scmag"] = finished.uns["scmag"]
    assert _values.used_modalities(renamed, "scmag") == ["prot"]
    assert (
        "joined the modalities ['rna', 'prot'], and the MuData has cells of ['gex', 'prot']: ['prot'] alone take part"
        in caplog.text
    )
    finished.mod["rna"] = finished["rna"][:0].copy()
    assert _values.used_modalities(finished, "scmag") == ["prot"]
    alone = make_mudata({"gex": renamed["gex"]}, finished.obs)
    alone.uns["scmag"] = finished.uns["scmag"]
    with pytest.raises(KeyError, match="Give those back their names, or name modalities="):
        _values.used_modalities(alone, "scmag")
    assert _values.used_modalities(alone, "scmag", "gex") == ["gex"]


def test_modalities_may_have_colons_in_their_names(finished: MuData) -> None:
    mdata = make_mudata({"rna": finished["rna"], "rna:adt": finished["prot"]})
    both = list(mdata.mod)
    assert _values.find_feature(mdata, "rna:adt:p5", both) == _values.Feature("rna:adt", "p5")
    assert _values.find_feature(mdata, "rna:g5", both) == _values.Feature("rna", "g5")


def test_clusters_are_text_without_empty_categories(finished: MuData) -> None:
    finished.obs["number"] = np.where(np.arange(180) < 90, 1, 2)
    assert list(_values.cluster_column(finished, "number").cat.categories) == ["1", "2"]
    finished.obs["some"] = pd.Categorical(["x"] * 180, categories=["x", "y"])
    assert list(_values.cluster_column(finished, "some").cat.categories) == ["x"]
    with pytest.raises(KeyError, match=r"No clusters in mdata.obs\['scmog'\]. Make them with scmag_muon.tl.scmag"):
        _values.cluster_column(finished, "scmog")


def ranked(**columns: list[object]) -> pd.DataFrame:
    table = pd.DataFrame({"feature": ["MT-CO1", "RPS4X", "CD3E", "IL7R", "CD8A", "LYZ"], "modality": "rna"})
    table["cluster"] = ["0"] * 5 + ["1"]
    table["auroc"] = [0.99, 0.98, 0.9, 0.8, 0.7, 0.6]
    return table.assign(**columns)


def test_short_lists_hold_what_tells_the_cluster_from_the_next() -> None:
    table = ranked(is_marker=[True] * 4 + [False, False], log2_fold_change_next=[1.0, 1, -0.5, 0.4, 2, 1])
    assert _values.short_list(table, 3)["feature"].tolist() == ["IL7R", "CD3E"]
    assert _values.short_list(table, 1, housekeeping=True)["feature"].tolist() == ["MT-CO1"]


def test_a_modality_without_markers_and_a_table_of_an_earlier_version() -> None:
    assert _values.short_list(ranked(is_marker=[False] * 6), 2)["feature"].tolist() == ["CD3E", "IL7R", "LYZ"]
    assert _values.short_list(ranked(), 2)["feature"].tolist() == ["CD3E", "IL7R", "LYZ"]
