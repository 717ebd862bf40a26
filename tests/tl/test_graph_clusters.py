from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from scmag_muon.tl._graph_clusters import communities, graph_clusters, order_by_size


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    x, labels = make_blobs([300, 150, 60, 30], n_features=8, cluster_std=1.0, center_box=(-12, 12), random_state=0)
    return x.astype(np.float32), labels


def test_separate_groups_are_found(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = blobs
    assert adjusted_rand_score(labels, graph_clusters(x, 4)) == 1


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 5, 9, 20])
def test_exactly_as_many_as_asked_for_largest_first(blobs: tuple[np.ndarray, np.ndarray], n_clusters: int) -> None:
    found = graph_clusters(blobs[0], n_clusters)
    sizes = np.bincount(found)
    assert len(sizes) == n_clusters
    assert (np.diff(sizes) <= 0).all()


def test_small_group_is_kept_before_a_large_one_is_cut() -> None:
    # a lower resolution would cut the long group first: it is most of the cells
    rng = np.random.default_rng(0)
    long = np.column_stack([np.linspace(0, 6, 800), rng.normal(0, 0.5, 800)])
    small = rng.normal([3, 9], 0.3, (20, 2))
    other = rng.normal([12, 0], 0.5, (100, 2))
    found = graph_clusters(np.vstack([long, small, other]).astype(np.float32), 3)
    assert adjusted_rand_score(np.repeat([0, 1, 2], [800, 20, 100]), found) == 1


def test_joining_never_cuts_a_cluster(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    fine, coarse = graph_clusters(blobs[0], 6), graph_clusters(blobs[0], 3)
    assert all(len(np.unique(coarse[fine == i])) == 1 for i in range(6))


def test_more_clusters_than_the_graph_can_give() -> None:
    with pytest.raises(ValueError, match=r"into 4 communities at most, fewer than n_clusters=5. Ask for fewer"):
        graph_clusters(np.zeros((4, 2), dtype=np.float32), 5)


def test_same_seed_same_clusters(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(graph_clusters(blobs[0], 7), graph_clusters(blobs[0], 7))


def test_communities_of_separate_groups(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = blobs
    (found,) = communities(x)
    # every community lies within one group, and the groups of less than 150 cells stay whole
    assert all(len(np.unique(labels[found == i])) == 1 for i in np.unique(found))
    assert len(np.unique(found[labels == 3])) == 1


def test_order_by_size() -> None:
    assert order_by_size(np.array([7, 7, 2, 9, 9, 9])).tolist() == [1, 1, 2, 0, 0, 0]
