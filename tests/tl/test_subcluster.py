"""One cluster divided further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon.model._confidence import confidence

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def test_one_cluster_falls_in_its_parts_and_the_others_stay(with_tree: MuData) -> None:
    smm.tl.subcluster(with_tree, "0", n_clusters=2)
    found, before = with_tree.obs["scmag_sub"], with_tree.obs["scmag"]
    assert list(found.cat.categories) == ["0,0", "0,1", "1", "2", "3"]
    outside = before != "0"
    assert (found[outside].astype(str) == before[outside].astype(str)).all()
    assert adjusted_rand_score(found[~outside], np.arange(180)[~outside] % 2) > 0.9
    assert (found == "0,0").sum() >= (found == "0,1").sum()
    expected = confidence(
        with_tree.obsm["X_manifold_unfitted"], with_tree.obsm["X_scmag"], found.astype(str).to_numpy()
    )
    np.testing.assert_allclose(with_tree.obs["scmag_sub_confidence"], expected)


def test_neighbours_are_those_of_the_cluster_alone(with_tree: MuData) -> None:
    smm.tl.subcluster(with_tree, "0", n_clusters=3, key_added="all")
    inside = (with_tree.obs["scmag"] == "0").to_numpy()
    other = with_tree.obsm["X_manifold_unfitted"].copy()
    other[~inside] = np.random.default_rng(0).normal(size=other[~inside].shape)
    with_tree.obsm["X_manifold_unfitted"] = other
    smm.tl.subcluster(with_tree, "0", n_clusters=3, key_added="alone")
    assert (with_tree.obs["all"].astype(str) == with_tree.obs["alone"].astype(str)).all()


def test_the_number_of_parts_can_be_left_to_the_data(with_tree: MuData) -> None:
    smm.tl.subcluster(with_tree, "0")
    found = with_tree.obs["scmag_sub"]
    assert with_tree.uns["scmag_sub"]["n_parts"] == found[with_tree.obs["scmag"] == "0"].nunique() >= 2


def test_a_cluster_in_one_piece_keeps_its_name(
    with_tree: MuData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="scmag_muon")
    monkeypatch.setattr(
        "scmag_muon.tl._subcluster.typical_communities", lambda x, **_: np.zeros(len(x), dtype=np.int64)
    )
    smm.tl.subcluster(with_tree, "2")
    pd.testing.assert_series_equal(with_tree.obs["scmag_sub"], with_tree.obs["scmag"], check_names=False)
    assert "is not divided: its cells are one community" in caplog.text


def test_levels_and_parts_can_be_divided_again_and_saved(with_tree: MuData, tmp_path: Path) -> None:
    smm.tl.cut(with_tree, n_clusters=3)
    smm.tl.subcluster(with_tree, "0", key="scmag_3", n_clusters=2)
    smm.tl.subcluster(with_tree, "1", key="scmag_3_sub", n_clusters=2, key_added="twice")
    assert list(with_tree.obs["twice"].cat.categories) == ["0,0", "0,1", "1,0", "1,1", "2"]
    assert set(smm.tl.markers(with_tree, key="twice")["cluster"]) == set(with_tree.obs["twice"])
    with_tree.write_h5mu(tmp_path / "sub.h5mu")
    again = mudata.read_h5mu(tmp_path / "sub.h5mu")
    smm.tl.subcluster(again, "1", key="scmag_3_sub", n_clusters=2, key_added="twice")
    pd.testing.assert_series_equal(again.obs["twice"], with_tree.obs["twice"])


@pytest.mark.parametrize(
    ("cluster", "arguments", "error", "message"),
    [
        ("7", {}, ValueError, r"No cluster '7' in 'scmag', which has \['0', '1', '2', '3'\]"),
        ("0", {"n_clusters": 1}, ValueError, "`n_clusters` must be an integer at least 2"),
        ("0", {"n_clusters": 71}, ValueError, "`n_clusters` must be an integer at least 2 and at most 70"),
        ("0", {"key": "cell_type"}, KeyError, r"mdata.obs\['cell_type'\] is not of a run"),
        ("0", {"key_added": "batch"}, ValueError, r"mdata.obs\['batch'\] is there already"),
        ("0", {"random_state": -1}, ValueError, "`random_state`"),
        ("small", {}, ValueError, "The cluster 'small' has 5 cells; 20 or more can be divided"),
    ],
)
def test_wrong_arguments(with_tree: MuData, cluster: str, arguments: Any, error: Any, message: str) -> None:
    if cluster == "small":
        with_tree.obs["scmag"] = with_tree.obs["scmag"].cat.add_categories("small")
        with_tree.obs.iloc[:5, list(with_tree.obs).index("scmag")] = "small"
    columns = list(with_tree.obs)
    with pytest.raises(error, match=message):
        smm.tl.subcluster(with_tree, cluster, **arguments)
    assert list(with_tree.obs) == columns
