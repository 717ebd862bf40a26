from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import zscore

import scmag_muon as smm
from scmag_muon import _values

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_standardised_means_in_the_order_of_the_dendrogram(
    finished: MuData, looks_right: Callable[[Any, str], None]
) -> None:
    ax, branches = smm.pl.heatmap(finished)
    order = [label.get_text() for label in ax.get_yticklabels()]
    assert order == list(finished.uns["dendrogram_scmag"]["categories_ordered"])
    # clusters 2 and 3 lie next to each other in X_scmag
    assert abs(order.index("2") - order.index("3")) == 1
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert sorted(shown) == sorted(finished["prot"].var_names)
    values = _values.normalized_counts(finished, "prot", layer=None, key="scmag", across="cells")
    labels = finished.obs["scmag"].astype(str).to_numpy()
    means = np.stack([values[labels == name].mean(axis=0) for name in order])
    means = means[:, finished["prot"].var_names.get_indexer(shown)]
    np.testing.assert_allclose(ax.images[0].get_array(), zscore(means, axis=0), atol=1e-4)
    highest = zscore(means, axis=0)
    rows = highest.argmax(axis=0)
    assert rows.tolist() == sorted(rows)  # a diagonal, and in each row the highest first
    assert all(highest[row, rows == row].tolist() == sorted(highest[row, rows == row])[::-1] for row in range(4))
    assert len(branches.lines) == 3
    looks_right(np.array([ax, branches]), "heatmap")


def test_branches_end_at_their_rows(finished: MuData) -> None:
    ax, branches = smm.pl.heatmap(finished)
    leaves = sorted(
        y for line in branches.lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True) if x == 0
    )
    assert leaves == [0, 1, 2, 3]
    assert ax.get_ylim() == branches.get_ylim() == (3.5, -0.5)


def test_isotype_controls_are_left_out_of_a_panel_and_features_keep_their_order(finished: MuData) -> None:
    finished["prot"].var_names = [f"p{i}" if i else "Mouse-IgG1" for i in range(10)]
    ax, _ = smm.pl.heatmap(finished)
    assert sorted(label.get_text() for label in ax.get_xticklabels()) == [f"p{i}" for i in range(1, 10)]
    ax, _ = smm.pl.heatmap(finished, features=["p3", "Mouse-IgG1", "p1"])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["p3", "Mouse-IgG1", "p1"]


def test_a_constant_feature_is_neither_high_nor_low(finished: MuData) -> None:
    counts = finished["rna"].X.tolil()
    counts[:, 0] = 0
    finished["rna"].X = counts.tocsr()
    ax, _ = smm.pl.heatmap(finished, modality="rna", features=["g0", "g1"])
    np.testing.assert_array_equal(ax.images[0].get_array()[:, 0], 0)


def test_large_modalities_show_markers(finished: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scmag_muon.pl._heatmap._MOST", 40)
    with pytest.raises(KeyError, match=r"No table in mdata.uns\['scmag_markers'\].*or name features="):
        smm.pl.heatmap(finished, modality="rna")
    smm.tl.markers(finished)
    ax, _ = smm.pl.heatmap(finished, modality="rna")
    names = [label.get_text() for label in ax.get_xticklabels()]
    order = [int(label.get_text()) for label in ax.get_yticklabels()]
    assert [int(name[1:]) // 8 for name in names] == np.repeat(order, 3).tolist()


def test_one_feature_may_be_named_by_itself(finished: MuData) -> None:
    ax, _ = smm.pl.heatmap(finished, features="p5", modality="prot")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["p5"]


def test_errors(finished: MuData) -> None:
    with pytest.raises(KeyError, match="No modality 'atac'"):
        smm.pl.heatmap(finished, modality="atac")
    finished.obs["two"] = ["a", "b"] * 90
    verb = r"scanpy.tl.dendrogram\(mdata, groupby='{}', use_rep='X_scmag'\)"
    with pytest.raises(KeyError, match=r"No linkage in mdata.uns\['dendrogram_two'\]. Run " + verb.format("two")):
        smm.pl.heatmap(finished, groupby="two")
    with pytest.raises(KeyError, match="is of other clusters. Run " + verb.format("two")):
        smm.pl.heatmap(finished, groupby="two", dendrogram_key="dendrogram_scmag")
