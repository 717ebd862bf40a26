from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from scmag_muon.manifold.neighbors import nearest_in
from scmag_muon.model import _confidence
from scmag_muon.model._confidence import confidence, confidence_among, share_of_neighbors


def two_groups(overlap: float, sizes: tuple[int, int] = (200, 200)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], sizes)
    return rng.normal(size=(len(labels), 2)) + overlap * (labels == "b")[:, None], labels


def test_it_is_the_share_of_votes_by_hand() -> None:
    space = np.array([[0.0], [1.0], [2.0], [3.1], [10.0], [11.0], [12.0], [13.1]])
    labels = np.array(list("aaabbbbb"))
    # five neighbours vote for each: half of no cluster is more
    assert share_of_neighbors(space, labels)[0] == pytest.approx(2.5 / 6)
    assert share_of_neighbors(space, labels)[7] == pytest.approx(4.5 / 6)


def test_cells_between_clusters_are_less_sure() -> None:
    space, labels = two_groups(3.0)
    found = share_of_neighbors(space, labels)
    across = np.abs(space.sum(axis=1) - 3.0)
    assert found[across < 0.7].mean() < 0.75
    assert found[across > 3].mean() > 0.97
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize("overlap", [1.0, 1.5, 2.5, 4.0])
def test_the_mean_is_the_share_of_cells_that_the_best_rule_gets_right(overlap: float) -> None:
    space, truth = two_groups(overlap, (1500, 1500))
    labels = np.where(space.sum(axis=1) > overlap, "b", "a")
    right = labels == truth
    of_truth = share_of_neighbors(space, truth)
    sure = np.where(right, of_truth, 1 - of_truth)
    assert abs(sure.mean() - right.mean()) < 0.03


def test_small_clusters_are_not_outvoted() -> None:
    space, labels = two_groups(20.0, (400, 12))
    assert share_of_neighbors(space, labels)[labels == "b"].min() > 0.9


def test_labels_without_structure_get_the_share_of_chance() -> None:
    space, _ = two_groups(0.0, (600, 600))
    labels = np.random.default_rng(1).choice(list("abcd"), size=1200)
    assert share_of_neighbors(space, labels).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_cells_and_one_cluster(n: int) -> None:
    found = share_of_neighbors(np.arange(n, dtype=float)[:, None], np.zeros(n, dtype=int))
    assert found.shape == (n,)
    assert ((found > 0.5) & (found <= 1)).all()


def test_further_cells_ask_the_reference() -> None:
    space, labels = two_groups(12.0)
    further = np.array([[0.0, 0.0], [12.0, 12.0], [0.0, 0.0], [6.0, 6.0]])
    nearest = partial(nearest_in, further.astype(np.float32), space.astype(np.float32))
    found = confidence_among(nearest, np.array(["a", "b", "b", "unknown"]), labels)
    assert found[:2].min() > 0.98
    assert found[2:].max() < 0.02
    assert len(confidence_among(lambda k: np.empty((0, k), int), np.array([], dtype=str), labels)) == 0


def test_it_is_the_mean_of_shares_in_three_spaces() -> None:
    joint, labels = two_groups(2.0)
    latent = np.random.default_rng(4).normal(size=(len(labels), 3))
    x, y, z = (share_of_neighbors(space, labels) for space in (joint[:, :1], joint[:, 1:], latent))
    np.testing.assert_allclose(confidence(joint, latent, labels), x / 4 + y / 4 + z / 2)
    np.testing.assert_allclose(confidence(joint, None, labels), (x + y) / 2)
    np.testing.assert_allclose(confidence(joint[:, :1], None, labels), x)


def test_of_many_cells_a_sample_votes_and_no_cell_for_itself() -> None:
    space, labels = two_groups(4.0, (600, 300))
    every = share_of_neighbors(space, labels)
    some = share_of_neighbors(space, labels, most_voters=500)
    assert np.corrcoef(every, some)[0, 1] > 0.9
    # a cluster of one cell has no vote but its own
    alone = labels.astype(object)
    alone[7] = "alone"
    assert share_of_neighbors(space, alone, most_voters=899)[7] == pytest.approx(0.5 / 6)
    assert share_of_neighbors(space, labels, most_voters=899).mean() == pytest.approx(every.mean(), abs=0.005)


def test_how_many_cells_ask_at_a_time_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    space, labels = two_groups(2.0)
    whole = share_of_neighbors(space, labels, most_voters=90)
    monkeypatch.setattr(_confidence, "_ROWS_AT_A_TIME", 37)
    np.testing.assert_array_equal(share_of_neighbors(space, labels, most_voters=90), whole)
    assert len(np.unique(whole)) > 10
