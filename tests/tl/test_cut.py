"""Clusters at other levels of a run's tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon.model._confidence import confidence

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SHORT: dict[str, Any] = {"max_epochs_pretrain": 3, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}


def labels(mdata: MuData, n: int, **arguments: Any) -> pd.Series:
    smm.tl.cut(mdata, n_clusters=n, **arguments)
    return mdata.obs[f"scmag_{n}"]


def test_levels_are_nested_and_numbered_by_size(with_tree: MuData) -> None:
    finer = labels(with_tree, 6)
    for n in (5, 4, 3, 2, 1):
        level = labels(with_tree, n)
        crossed = pd.crosstab(finer, level)
        assert level.nunique() == n
        assert ((crossed > 0).sum(axis=1) == 1).all()
        sizes = level.value_counts()[[str(i) for i in range(n)]]
        assert sizes.is_monotonic_decreasing
        finer = level


def test_at_its_own_level_the_run_is_left_as_it_is(with_tree: MuData) -> None:
    own = labels(with_tree, 4)
    pd.testing.assert_series_equal(own, with_tree.obs["scmag"], check_names=False)
    np.testing.assert_array_equal(with_tree.obs["scmag_4_confidence"], with_tree.obs["scmag_confidence"])


def test_confidences_are_of_the_level(with_tree: MuData) -> None:
    level = labels(with_tree, 6)
    expected = confidence(with_tree.obsm["X_manifold_unfitted"], with_tree.obsm["X_scmag"], level.to_numpy())
    np.testing.assert_allclose(with_tree.obs["scmag_6_confidence"], expected)


def test_height_makes_all_joins_up_to_it(with_tree: MuData) -> None:
    heights = np.asarray(with_tree.uns["scmag"]["tree"]["height"])
    smm.tl.cut(with_tree, height=float(heights[0]), key_added="low")
    smm.tl.cut(with_tree, height=0, key_added="leaves")
    smm.tl.cut(with_tree, height=1e9, key_added="all")
    assert [with_tree.obs[name].nunique() for name in ("leaves", "low", "all")] == [
        6,
        6 - (heights == heights[0]).sum(),
        1,
    ]
    assert with_tree.uns["low"]["height"] == pytest.approx(heights[0])


def test_other_verbs_take_a_level(with_tree: MuData) -> None:
    labels(with_tree, 5)
    table = smm.tl.markers(with_tree, key="scmag_5")
    assert set(table["cluster"]) == set("01234")
    assert set(table["modality"]) == {"rna", "prot"}
    with pytest.raises(KeyError, match=r"No run in mdata.uns\['scmag_5'\]"):
        smm.tl.stability(with_tree, key="scmag_5")


def test_what_was_made_from_other_clusters_under_the_name_goes(with_tree: MuData) -> None:
    smm.tl.cut(with_tree, n_clusters=5, key_added="mine")
    smm.tl.markers(with_tree, key="mine")
    with_tree.uns["mine_colors"] = np.array(["red"] * 5)
    smm.tl.cut(with_tree, n_clusters=5, key_added="mine")
    assert "mine_colors" in with_tree.uns
    smm.tl.cut(with_tree, n_clusters=3, key_added="mine")
    assert "mine_colors" not in with_tree.uns
    assert set(with_tree.uns["mine_markers"]["table"]["cluster"]) == set("012")


def test_a_level_survives_saving(with_tree: MuData, tmp_path: Path) -> None:
    before = labels(with_tree, 5).copy()
    with_tree.write_h5mu(tmp_path / "cut.h5mu")
    again = mudata.read_h5mu(tmp_path / "cut.h5mu")
    assert again.uns["scmag_5"]["n_clusters"] == 5
    pd.testing.assert_series_equal(labels(again, 5), before)


def test_a_part_of_the_cells_can_be_cut(with_tree: MuData) -> None:
    whole = labels(with_tree, 5)
    part = with_tree[with_tree.obs["scmag"] != "1"].copy()
    assert labels(part, 5).astype(str).to_dict() == whole[part.obs_names].astype(str).to_dict()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "Give either `n_clusters` or `height`, got n_clusters=None and height=None"),
        ({"n_clusters": 3, "height": 1.0}, ValueError, "Give either"),
        ({"n_clusters": 0}, ValueError, "`n_clusters` must be an integer at least 1, got 0"),
        ({"n_clusters": "3"}, TypeError, "`n_clusters` must be an integer"),
        ({"height": "high"}, TypeError, "`height` must be"),
        (
            {"n_clusters": 7},
            ValueError,
            r"The finest level .* has 6 clusters. Divide .* scmag_muon.tl.subcluster\(mdata, '0'",
        ),
        ({"n_clusters": 2, "key": "other"}, KeyError, r"No run in mdata.uns\['other'\]"),
        ({"n_clusters": 2, "key_added": "scmag"}, ValueError, "not from an earlier cut"),
        ({"n_clusters": 2, "key_added": "cell_type"}, ValueError, r"mdata.obs\['cell_type'\] is there already"),
        ({"n_clusters": 2, "key_added": "a/b"}, ValueError, "no slash"),
    ],
)
def test_wrong_arguments(with_tree: MuData, arguments: Any, error: Any, message: str) -> None:
    columns = list(with_tree.obs)
    with pytest.raises(error, match=message):
        smm.tl.cut(with_tree, **arguments)
    assert list(with_tree.obs) == columns


def test_without_the_clusters_of_the_run_nothing_is_written(with_tree: MuData) -> None:
    del with_tree.obs["scmag"]
    columns = set(with_tree.obs)
    with pytest.raises(KeyError, match=r"No clusters in mdata.obs\['scmag'\]"):
        smm.tl.cut(with_tree, n_clusters=2)
    assert set(with_tree.obs) == columns


def test_runs_without_a_tree_and_changed_leaves(with_tree: MuData) -> None:
    with_tree.obs["scmag_leaf"] = np.roll(with_tree.obs["scmag_leaf"], 1)
    with pytest.raises(ValueError, match=r"mdata.obs\['scmag_leaf'\] has changed since the run. Make the run anew"):
        smm.tl.cut(with_tree, n_clusters=2)
    with_tree.obs["scmag_leaf"] = with_tree.obs["scmag_leaf"].astype(float)
    with_tree.obs.iloc[3, list(with_tree.obs).index("scmag_leaf")] = np.nan
    with pytest.raises(ValueError, match="no leaf of the tree for 1 cells, the first of them 'cell3'"):
        smm.tl.cut(with_tree, n_clusters=2)
    del with_tree.obs["scmag_leaf"]
    with pytest.raises(KeyError, match="No leaves of the tree"):
        smm.tl.cut(with_tree, n_clusters=2)
    del with_tree.uns["scmag"]["tree"]
    with pytest.raises(KeyError, match="kept no tree"):
        smm.tl.cut(with_tree, n_clusters=2)


def test_several_numbers_of_clusters_train_once(caplog: pytest.LogCaptureFixture) -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=240, n_vars=80, n_prot=12, n_clusters=3)
    smm.tl.scmag(mdata, n_clusters=[4, 2, 60], **SHORT)
    assert mdata.uns["scmag"]["n_clusters"] == 4
    pd.testing.assert_series_equal(mdata.obs["scmag_4"], mdata.obs["scmag"], check_names=False)
    assert mdata.obs["scmag_2"].nunique() == 2
    assert "scmag_60" not in mdata.obs
    assert "n_clusters=60 is not in the tree" in caplog.text
    smm.tl.markers(mdata, key="scmag_2")
    smm.tl.scmag(mdata, **SHORT)
    assert not {"scmag_2", "scmag_2_markers", "scmag_4"} & {*mdata.obs, *mdata.uns}
    table = mdata.uns["scmag"]["levels"]
    n = mdata.uns["scmag"]["n_clusters"]
    assert table["agreement"].between(0, 1).all()
    assert n in table["n_clusters"].to_numpy()
    chosen = table.set_index("n_clusters")["agreement"]
    assert all(chosen[other] >= chosen[n] - 0.02 for other in mdata.uns["scmag"]["as_good"])


def test_k_means_gives_no_finer_level(citeseq: MuData) -> None:
    smm.tl.scmag(citeseq, n_clusters=[2, 3], settings="paper", **SHORT)
    assert citeseq.uns["scmag"]["n_clusters"] == 3
    assert citeseq.obs["scmag_2"].nunique() == 2
    with pytest.raises(ValueError, match="are not divided further: there are 3"):
        smm.tl.cut(citeseq, n_clusters=5)


@pytest.mark.parametrize("wrong", [[], [3, 0], [2.5], "4"])
def test_wrong_numbers_of_clusters(citeseq: MuData, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="`n_clusters`"):
        smm.tl.scmag(citeseq, n_clusters=wrong, **SHORT)
    citeseq.obs["scmag_3"] = 1
    with pytest.raises(ValueError, match=r"mdata.obs\['scmag_3'\] is there already"):
        smm.tl.scmag(citeseq, n_clusters=[2, 3], **SHORT)
