from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_cluster_tree(with_tree: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = smm.tl.cluster_tree(with_tree)
    axes = smm.pl.cluster_tree(with_tree)
    tree = with_tree.uns["scmag"]["tree"]
    shown = [text.get_text() for text in axes[0].texts]
    assert sorted(name for name in shown if name in list("0123")) == list("0123")
    assert sorted(name for name in shown if name not in list("0123")) == sorted(map(str, tree["n_cells"]))
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list("123456")
    circles = [line for line in axes[0].lines if line.get_marker() == "o"]
    assert len(circles) == 11
    best = table[table["n_clusters"] == 2].sort_values("auroc").iloc[-1]
    assert f"{best['feature']} {best['auroc']:.2f}" in [text.get_text() for text in axes[1].texts]
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["rna", "prot"]
    looks_right(axes, "cluster_tree")


def test_circles_are_as_large_as_their_clusters(with_tree: MuData) -> None:
    smm.tl.cluster_tree(with_tree, n_clusters=4)
    ax = smm.pl.cluster_tree(with_tree)[0]
    areas = {}
    for line in ax.lines:
        if line.get_marker() == "o":
            areas[int(line.get_ydata()[0])] = [*areas.get(int(line.get_ydata()[0]), []), line.get_markersize() ** 2]
    assert [len(areas[n]) for n in (1, 2, 3, 4)] == [1, 2, 2, 2]
    assert all(sum(areas[n]) <= areas[1][0] * (1 + 1e-9) for n in (2, 3, 4))
    assert sum(areas[2]) == pytest.approx(areas[1][0])


def test_clusters_are_called_as_they_are_called_now(with_tree: MuData) -> None:
    smm.tl.cluster_tree(with_tree, n_clusters=4)
    with_tree.obs["scmag"] = with_tree.obs["scmag"].astype(str).replace({"0": "T cells", "1": "T cells"})
    left = with_tree[(with_tree.obs["scmag"] != "3").to_numpy()].copy()  # the tree still has the leaf of these
    for mdata, last in ((with_tree, "3"), (left, "3")):
        shown = [text.get_text() for text in smm.pl.cluster_tree(mdata)[0].texts]
        assert sorted(set(shown) & {"0", "1", "2", "3", "T cells"}) == ["2", last, "T cells"]
        assert shown.count("T cells") == 2


def test_what_is_missing_or_out_of_date_is_named(with_tree: MuData) -> None:
    with pytest.raises(
        KeyError, match=r"No table in mdata.uns\['scmag_cluster_tree'\]. Run scmag_muon.tl.cluster_tree"
    ):
        smm.pl.cluster_tree(with_tree)
    smm.tl.cluster_tree(with_tree)
    with_tree.obs["scmag_leaf"] = np.roll(with_tree.obs["scmag_leaf"], 1)
    with pytest.raises(ValueError, match="has changed since the run"):
        smm.pl.cluster_tree(with_tree)
    with pytest.raises(KeyError, match="No run"):
        smm.pl.cluster_tree(with_tree, key="other")
