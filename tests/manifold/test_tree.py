"""Levels of a tree of clusters."""

from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.manifold.tree import ClusterTree

# ((0 2) (1 3)) 4, where the clusters of the run are (0 2), (1 3) and 4
TREE = ClusterTree(
    joins=np.array([[0, 2], [1, 3], [5, 6], [4, 7]]),
    separation=np.array([2.0, 1.0, 5.0, 4.0]),
    sizes=np.array([10, 20, 30, 40, 50]),
    clusters=np.array([1, 2, 1, 2, 0]),
)


@pytest.mark.parametrize(
    ("n", "nodes", "level"),
    [
        (5, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
        (4, [1, 3, 4, 5], [3, 0, 3, 1, 2]),
        (3, [4, 5, 6], [1, 2, 1, 2, 0]),
        (2, [4, 7], [1, 1, 1, 1, 0]),
        (1, [8], [0, 0, 0, 0, 0]),
    ],
)
def test_nodes_and_clusters_of_each_level(n: int, nodes: list[int], level: list[int]) -> None:
    assert TREE.nodes_at(n) == nodes
    np.testing.assert_array_equal(TREE.level(n), level)


def test_the_level_of_the_run_has_its_own_order() -> None:
    assert (TREE.n_leaves, TREE.n_clusters) == (5, 3)
    np.testing.assert_array_equal(TREE.level(3), TREE.clusters)
    assert sorted(TREE.leaves_of(7)) == [0, 1, 2, 3]
    assert TREE.leaves_of(4) == [4]


@pytest.mark.parametrize(("height", "n"), [(0, 5), (1.9, 5), (2, 3), (4.5, 3), (5, 1)])
def test_heights_rise_and_level_by_them(height: float, n: int) -> None:
    np.testing.assert_array_equal(TREE.heights, [2, 2, 5, 5])
    assert TREE.n_at(height) == n
