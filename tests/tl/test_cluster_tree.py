"""What carries each split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import scmag_muon as smm
from scmag_muon._levels import read_levels
from scmag_muon.tl import _cluster_tree

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def test_features_are_ranked_between_the_two_sides_of_each_split(with_tree: MuData) -> None:
    table = smm.tl.cluster_tree(with_tree, n_features=2)
    levels = read_levels(with_tree, "scmag")
    tree = levels.tree
    assert sorted(set(table["n_clusters"])) == [2, 3, 4, 5, 6]
    values = smm._values.normalized_counts(with_tree, "rna", layer=None, key="scmag", across="cells").toarray()
    for n in (2, 3, 4):
        one, other = (np.isin(levels.leaves, tree.leaves_of(int(node))) for node in tree.joins[tree.n_leaves - n])
        both = one | other
        for side, inside in zip(tree.joins[tree.n_leaves - n], (one, other), strict=True):
            rows = table[(table["n_clusters"] == n) & (table["node"] == side) & (table["modality"] == "rna")]
            assert set(rows["n_cells"]) == {int(inside.sum())}
            auroc = [roc_auc_score(inside[both], column) for column in values[both].T]
            np.testing.assert_allclose(rows["auroc"], np.sort(auroc)[::-1][:2])
            names = with_tree["rna"].var_names[np.argsort(-np.array(auroc), kind="stable")[:2]]
            assert rows["feature"].tolist() == names.tolist()


def test_only_features_that_took_part_and_mean_something(with_tree: MuData) -> None:
    all_of_them = set(smm.tl.cluster_tree(with_tree, n_features=60)["feature"])
    assert {"g3", "p9"} <= all_of_them
    with_tree["rna"].var["manifold"] = with_tree["rna"].var_names != "g3"
    with_tree["rna"].var_names = ["RPL3", *with_tree["rna"].var_names[1:]]
    with_tree["prot"].var_names = [*with_tree["prot"].var_names[:9], "IgG1"]
    kept = set(smm.tl.cluster_tree(with_tree, n_features=60)["feature"])
    assert not kept & {"g3", "RPL3", "IgG1"}
    assert "g4" in kept


def test_a_sample_serves_where_a_side_is_large(with_tree: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = smm.tl.cluster_tree(with_tree)
    monkeypatch.setattr(_cluster_tree, "_MOST_CELLS", 15)
    some = smm.tl.cluster_tree(with_tree)
    assert set(some["n_cells"]) == set(whole["n_cells"])
    assert not np.array_equal(some["auroc"], whole["auroc"])
    pd.testing.assert_frame_equal(some, smm.tl.cluster_tree(with_tree, random_state=0))


def test_it_is_kept_and_goes_with_the_run(with_tree: MuData, tmp_path: Path) -> None:
    table = smm.tl.cluster_tree(with_tree, n_clusters=3)
    with_tree.write_h5mu(tmp_path / "tree.h5mu")
    again = mudata.read_h5mu(tmp_path / "tree.h5mu")
    stored = again.uns["scmag_cluster_tree"]["table"]
    np.testing.assert_allclose(stored["auroc"], table["auroc"])
    assert stored["feature"].astype(str).tolist() == table["feature"].astype(str).tolist()
    smm.tl._derived.forget_derived(again, "scmag")
    assert "scmag_cluster_tree" not in again.uns


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_clusters": 7}, ValueError, "`n_clusters` must be an integer at least 1 and at most 6"),
        ({"n_features": 0}, ValueError, "`n_features` must be"),
        ({"key": "other"}, KeyError, "No run"),
    ],
)
def test_wrong_arguments(with_tree: MuData, arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        smm.tl.cluster_tree(with_tree, **arguments)
    assert "scmag_cluster_tree" not in with_tree.uns
