from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from scmag_muon.metrics import clustering_scores, type_scores

if TYPE_CHECKING:
    from collections.abc import Callable

TRUE = ["B", "B", "B", "T", "T", "T", "NK", "NK"]
PRED = [0, 0, 1, 1, 1, 1, 2, 0]


def reference(true: Any, pred: Any) -> dict[str, float]:
    return {
        "ARI": metrics.adjusted_rand_score(true, pred),
        "NMI": metrics.normalized_mutual_info_score(true, pred),
        "AMI": metrics.adjusted_mutual_info_score(true, pred),
    }


def test_agrees_with_scikit_learn() -> None:
    scores = clustering_scores(TRUE, PRED)
    assert scores == pytest.approx(reference(TRUE, PRED))
    assert list(scores) == ["ARI", "NMI", "AMI"]
    assert all(type(score) is float for score in scores.values())


def test_by_hand() -> None:
    # Pairs together: 2 in both, 4 by label, 3 by cluster, of 10 in all. Expected in both: 4 * 3 / 10.
    # Five cells in three joint blocks of 2, 1 and 2.
    true, pred = list("aaabb"), list("xxyzz")
    together, labels, clusters = 1 + 0 + 1, 3 + 1, 1 + 0 + 1
    expected = labels * clusters / 10
    ari = (together - expected) / ((labels + clusters) / 2 - expected)

    def entropy(*sizes: int) -> float:
        shares = np.array(sizes) / 5
        return float(-(shares * np.log(shares)).sum())

    # The clusters refine the labels, so that all of the labels' entropy is shared.
    nmi = 2 * entropy(3, 2) / (entropy(3, 2) + entropy(2, 1, 2))
    scores = clustering_scores(true, pred)
    assert scores["ARI"] == pytest.approx(ari)
    assert scores["NMI"] == pytest.approx(nmi)


def test_extremes() -> None:
    assert clustering_scores(list("aabb"), [5, 5, 3, 3]) == pytest.approx({"ARI": 1, "NMI": 1, "AMI": 1})
    assert clustering_scores(list("aabb"), [0, 0, 0, 0]) == pytest.approx({"ARI": 0, "NMI": 0, "AMI": 0})
    assert clustering_scores(list("aabb"), [0, 1, 0, 1])["ARI"] == pytest.approx(-0.5)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30),
    names=st.permutations(["w", "x", "y", "z"]),
    numbers=st.permutations([7, 8, 9, 10]),
)
def test_names_do_not_matter(pairs: list[tuple[int, int]], names: list[str], numbers: list[int]) -> None:
    true, pred = zip(*pairs, strict=True)
    renamed = clustering_scores([names[label] for label in true], [numbers[label] for label in pred])
    assert renamed == pytest.approx(reference(true, pred))
    assert clustering_scores(pred, true) == pytest.approx(renamed)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "unknown"])
@pytest.mark.parametrize("wrap", [list, pd.Series, pd.Categorical, lambda labels: np.array(labels, dtype=object)])
def test_cells_without_a_label_do_not_count(missing: object, wrap: Callable[[list[object]], Any]) -> None:
    true = [*TRUE[:4], missing, *TRUE[4:], missing]
    pred = [*PRED[:4], 9, *PRED[4:], 0]
    assert clustering_scores(wrap(true), pred) == pytest.approx(reference(TRUE, PRED))
    assert clustering_scores(wrap(true), pd.Categorical(pred)) == pytest.approx(reference(TRUE, PRED))


def test_ignore_replaces_the_default() -> None:
    true, pred = [*TRUE, "unknown", "doublet"], [*PRED, 4, 0]
    without_doublet = reference(true[:-1], pred[:-1])
    assert clustering_scores(true, pred, ignore=("doublet",)) == pytest.approx(without_doublet)
    assert clustering_scores(true, pred, ignore="doublet") == pytest.approx(without_doublet)
    assert clustering_scores(true, pred, ignore=()) == pytest.approx(reference(true, pred))
    assert without_doublet != pytest.approx(reference(TRUE, PRED))


def test_numeric_labels_can_be_ignored() -> None:
    assert clustering_scores([0, 0, 1, 1, -1], [0, 0, 1, 1, 1], ignore=(-1,))["ARI"] == 1.0


def test_labels_of_mixed_types_and_floats() -> None:
    assert clustering_scores([1, 1, "b", "b"], [0.5, 0.5, 1.5, 1.5])["ARI"] == 1.0


def test_unscored_cells_need_no_cluster() -> None:
    assert clustering_scores(["a", "a", "b", None], [0, 0, 1, None])["ARI"] == 1.0


def test_equal_indices_in_order_pair_up() -> None:
    index = [f"cell_{i}" for i in range(8)]
    scores = clustering_scores(pd.Series(TRUE, index=index), pd.Series(PRED, index=index))
    assert scores == pytest.approx(reference(TRUE, PRED))
    assert clustering_scores(pd.Series(TRUE, index=index), PRED) == scores


def test_different_index() -> None:
    true = pd.Series(["a", "b", "a"], index=["x", "y", "z"])
    with pytest.raises(ValueError, match="different ind"):
        clustering_scores(true, true.sort_values())


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (["a", "b"], [0, 1, 1], "2 cells but `labels_pred` has 3"),
        (["a", "b"], [0, None], "`labels_pred` is missing"),
        (["a", "b"], [0.0, np.nan], "`labels_pred` is missing"),
        (["a", "b"], pd.Categorical(["x", None]), "`labels_pred` is missing"),
        (["unknown", None], [0, 1], "no known label"),
        ([], [], "no known label"),
        ([["a", "b"]], [0], "`labels_true` must be one-dimensional"),
        (["a", "b"], np.zeros((2, 1)), "`labels_pred` must be one-dimensional"),
    ],
)
def test_unusable_labels(true: Any, pred: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clustering_scores(true, pred)


def test_best_cluster_of_each_type_by_hand() -> None:
    # cluster 0: 2 B, 1 NK; cluster 1: 1 B, 3 T; cluster 2: 1 NK
    table = type_scores([*TRUE, "unknown", None], [*PRED, 1, 1])
    assert list(table.index) == ["B", "T", "NK"]
    assert list(table["n_cells"]) == [3, 3, 2]
    assert list(table["cluster"]) == ["0", "1", "2"]
    np.testing.assert_allclose(table["recall"], [2 / 3, 1, 1 / 2])
    np.testing.assert_allclose(table["precision"], [2 / 3, 3 / 4, 1])
    np.testing.assert_allclose(table["F1"], [2 / 3, 6 / 7, 2 / 3])


def test_the_best_cluster_is_not_the_one_with_most_of_the_type() -> None:
    """Most dendritic cells lie in a large cluster of others, yet the small one is theirs."""
    true, pred = ["T"] * 50 + ["DC"] * 5, ["0"] * 50 + ["0"] * 3 + ["1"] * 2
    found = type_scores(true, pred).loc["DC"]
    assert (found["cluster"], found["recall"], found["precision"]) == ("1", 2 / 5, 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1))
def test_f1_is_scikit_learns_best(pairs: list[tuple[int, int]]) -> None:
    true, pred = (np.array(labels) for labels in zip(*pairs, strict=True))
    for name, row in type_scores(true, pred).iterrows():
        best = max(metrics.f1_score(true == int(name), pred == cluster) for cluster in np.unique(pred))
        assert row["F1"] == pytest.approx(best)


def test_types_are_refused_as_scores_are() -> None:
    with pytest.raises(ValueError, match="has 2 cells but"):
        type_scores(["a", "b"], [1])
    with pytest.raises(ValueError, match="no known label"):
        type_scores(["unknown"], [1])
