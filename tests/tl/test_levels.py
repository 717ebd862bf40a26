"""How the tree of a run is made and stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scmag_muon._levels import Levels
from scmag_muon.manifold.tree import ClusterTree
from scmag_muon.tl import _levels
from scmag_muon.tl._levels import grow_levels, space_of_leaves, support
from scmag_muon.tl._start import Start

N = 240
SPACE = np.random.default_rng(0).normal(size=(N, 4))


def division(n: int) -> np.ndarray:
    return np.arange(N) % n


@pytest.mark.parametrize(
    ("numbers", "n_unfitted", "n_leaves", "chosen"),
    [
        ([12, 24, 3, 6, 12], 3, 6, 3),  # the coarsest of the unfitted with enough
        ([12, 24, 3, 6, 12], 3, 50, 4),  # none has: the finest of the unfitted
        ([3, 6, 12], 0, 5, 1),  # cells lack modalities: there are fitted ones only
    ],
)
def test_leaves_come_from_one_division(numbers: list[int], n_unfitted: int, n_leaves: int, chosen: int) -> None:
    labels = np.column_stack([division(n) for n in numbers])
    profiles = [np.eye(n) for n in numbers]
    start = Start(labels, profiles, n_unfitted=n_unfitted)
    communities, profile = _levels._division(start, SPACE, n_leaves, 0)
    np.testing.assert_array_equal(communities, labels[:, chosen])
    assert profile is profiles[chosen]


def test_without_profiles_communities_are_found_and_of_k_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def instead(space: np.ndarray, n_leaves: int, **_: Any) -> np.ndarray:
        asked.append((space, n_leaves))
        return division(6)

    monkeypatch.setattr(_levels, "leaf_communities", instead)
    labels = 2 * division(3)  # one cluster ran empty
    found = grow_levels(labels, Start(labels), space=SPACE, latent=SPACE, random_state=0)
    assert asked[0][0] is SPACE
    assert asked[0][1] == 40
    assert (found.tree.n_leaves, found.tree.n_clusters, found.names) == (6, 3, ["0", "2", "4"])
    np.testing.assert_array_equal(found.labels(3).astype(str), labels.astype(str))
    plain = grow_levels(labels, Start(), space=SPACE, latent=SPACE, random_state=0)
    assert len(asked) == 1
    np.testing.assert_array_equal(plain.leaves, labels // 2)


def test_cells_that_lack_modalities_are_judged_after_fitting() -> None:
    assert space_of_leaves("fit", complete=True) == "X_fit_unfitted"
    assert space_of_leaves("fit", complete=False) == "X_fit"


def test_levels_near_the_run_are_compared_with_communities() -> None:
    joins = np.array([[0, 1], [2, 3], [4, 5]])
    tree = ClusterTree(joins, np.array([1.0, 2.0, 3.0]), np.full(4, 60), np.array([0, 0, 1, 2]))
    levels = Levels(tree, division(4), ["a", "b", "c"])
    found = support(levels, [levels.codes(4), levels.codes(3), levels.codes(4)])
    table = found["levels"].set_index("n_clusters")
    assert list(table.index) == [1, 2, 3, 4]
    assert list(found["as_good"]) == [4]
    assert table["agreement"].idxmax() == 4
    assert table.loc[1, "agreement"] == 0
    assert table["separation"].iloc[1:].tolist() == [3.0, 2.0, 1.0]
