"""The tree of clusters."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.cluster.hierarchy import is_valid_linkage

from scmag_muon.model import _tree
from scmag_muon.model._tree import find_leaves, grow

if TYPE_CHECKING:
    from scmag_muon.manifold.tree import ClusterTree

# two clusters; the first is a large blob that communities cut in halves, and twelve cells far from it
CENTERS = np.array([[0.0, 0, 0], [1.5, 0, 0], [0, 9, 0], [0, 0, 30], [1.5, 0, 30]])
SIZES = (100, 100, 12, 40, 40)
CLUSTERS = np.repeat([0, 0, 0, 1, 1], SIZES)
COMMUNITIES = np.repeat(np.arange(5), SIZES)


def space() -> np.ndarray:
    return CENTERS[COMMUNITIES] + np.random.default_rng(0).normal(size=(len(CLUSTERS), 3))


def tree(**profiles: object) -> ClusterTree:
    return grow(CLUSTERS, COMMUNITIES, space=space(), latent=space(), **profiles)


def linkage(tree: ClusterTree) -> np.ndarray:
    sizes = np.ones(2 * tree.n_leaves - 1)
    for i, pair in enumerate(tree.joins):
        sizes[tree.n_leaves + i] = sizes[pair].sum()
    return np.column_stack([tree.joins, tree.heights, sizes[tree.n_leaves :]]).astype(float)


def test_a_small_group_far_away_is_split_off_before_halves_of_a_large_one() -> None:
    found = tree()
    np.testing.assert_array_equal(found.level(2), [0, 0, 0, 1, 1])
    level = found.level(3)
    assert level[0] == level[1] != level[2]
    assert level[3] == level[4]
    assert found.separation[:2].max() < 4 < found.separation[2]


def test_the_latent_space_has_no_say_within_a_cluster() -> None:
    latent = space()
    latent[COMMUNITIES == 2] = CENTERS[0]
    latent[COMMUNITIES == 1] += 50
    found = grow(CLUSTERS, COMMUNITIES, space=space(), latent=latent)
    np.testing.assert_array_equal(found.level(3), tree().level(3))


def test_levels_are_nested_and_one_is_the_run() -> None:
    found = tree()
    assert (found.n_leaves, found.n_clusters) == (5, 2)
    assert is_valid_linkage(linkage(found))
    finer = found.level(5)
    assert len(set(finer)) == 5
    for n in (4, 3, 2, 1):
        level = found.level(n)
        assert len(set(level)) == n
        assert all(len(set(level[finer == cluster])) == 1 for cluster in set(finer))
        finer = level
    np.testing.assert_array_equal(found.level(2)[COMMUNITIES], CLUSTERS)


def test_leaves_of_different_clusters_are_joined_last_though_they_are_near() -> None:
    clusters = np.repeat([0, 1, 0, 1, 1], SIZES)
    found = grow(clusters, COMMUNITIES, space=space(), latent=space())
    assert {frozenset(found.leaves_of(node)) for node in found.nodes_at(2)} == {frozenset({0, 2}), frozenset({1, 3, 4})}


def test_the_separation_is_in_deviations_within_leaves() -> None:
    joined = tree()
    first = {frozenset(pair): apart for pair, apart in zip(joined.joins.tolist(), joined.separation, strict=True)}
    assert first[frozenset({0, 1})] == pytest.approx(1.5, abs=0.35)
    doubled = grow(CLUSTERS, COMMUNITIES, space=3 * space(), latent=space())
    np.testing.assert_allclose(doubled.separation, joined.separation)
    assert (np.diff(joined.heights) >= 0).all()
    assert (joined.n_at(0), joined.n_at(joined.separation[0]), joined.n_at(np.inf)) == (5, 4, 1)


def test_joins_above_the_run_are_made_in_the_latent_space_and_in_expression() -> None:
    places = np.array([[0.0, 0], [1, 0], [5, 0]])
    clusters = np.repeat([0, 1, 2], 50)
    latent = places[clusters] + np.random.default_rng(0).normal(scale=0.3, size=(150, 2))
    joint = latent[:, ::-1] * [1, 0.01]

    def last(**profiles: object) -> list[int]:
        return grow(clusters, clusters, space=joint, latent=latent, **profiles).level(2).tolist()

    assert last() in ([0, 0, 1], [1, 1, 0])
    expression = np.array([[0.0, 0], [90, 0], [0, 9]])
    given = {"communities": clusters, "profiles": expression}
    assert last(**given, profile_weight=100) in ([0, 1, 0], [1, 0, 1])
    assert last(**given, profile_weight=1e-4) in ([0, 0, 1], [1, 1, 0])


def test_one_cluster_is_a_tree() -> None:
    clusters = np.zeros(20, dtype=int)
    found = grow(clusters, clusters, space=np.random.default_rng(0).normal(size=(20, 2)), latent=np.ones((20, 2)))
    assert (found.n_leaves, found.joins.shape, found.n_at(1)) == (1, (0, 2), 1)
    assert found.nodes_at(1) == [0]


def test_leaves_are_communities_within_their_clusters() -> None:
    communities = COMMUNITIES.copy()
    communities[:12] = 3  # most of it in another cluster
    communities[12:17] = 5  # too small
    leaves = find_leaves(CLUSTERS, communities, space())
    np.testing.assert_array_equal(np.unique(np.column_stack([CLUSTERS, leaves]), axis=0)[:, 1], np.arange(5))
    np.testing.assert_array_equal(leaves[17:], COMMUNITIES[17:])
    assert set(leaves[:17]) <= {0, 1}, "the twelve are far away"


def plain_leaves(clusters: np.ndarray, communities: np.ndarray, points: np.ndarray) -> np.ndarray:
    """One cell at a time, in units of the spread within clusters."""
    z = points.astype(float)
    within = sum(
        np.cov(z[clusters == cluster].T, bias=True) * (clusters == cluster).mean() for cluster in set(clusters)
    )
    within = 0.9 * within + 0.1 * np.eye(z.shape[1]) * np.diag(within).mean()
    metric, found, n_leaves = np.linalg.inv(within), np.empty(len(z), int), 0
    for cluster in range(clusters.max() + 1):
        means = []
        for community in range(communities.max() + 1):
            cells = (communities == community) & (clusters == cluster)
            home = np.bincount(clusters[communities == community]).argmax()
            if home == cluster and cells.sum() >= 10:
                found[cells] = n_leaves + len(means)
                means.append((community, z[cells].mean(axis=0)))
        for cell in np.flatnonzero(clusters == cluster):
            if communities[cell] not in [community for community, _ in means]:
                apart = [(z[cell] - mean) @ metric @ (z[cell] - mean) for _, mean in means]
                found[cell] = n_leaves + int(np.argmin(apart))
        n_leaves += len(means)
    return found


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_leaves_of_some_cells_at_a_time_are_those_of_one(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    communities = np.where(rng.random(len(CLUSTERS)) < 0.3, rng.integers(0, 5, len(CLUSTERS)), COMMUNITIES)
    communities[:4] = 5  # too small
    points = space().astype(np.float32)
    monkeypatch.setattr(_tree, "_CELLS_AT_A_TIME", at_a_time)
    np.testing.assert_array_equal(
        find_leaves(CLUSTERS, communities, points), plain_leaves(CLUSTERS, communities, points)
    )


@pytest.mark.parametrize("at_a_time", [7, 1000])
def test_trees_of_some_cells_at_a_time_are_those_of_all(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tree()
    monkeypatch.setattr(_tree, "_CELLS_AT_A_TIME", at_a_time)
    np.testing.assert_array_equal(tree().joins, expected.joins)
    np.testing.assert_allclose(tree().separation, expected.separation)


def test_a_tree_takes_less_than_its_cells_in_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    communities = rng.integers(0, 6, 20_000)
    points = (rng.normal(size=(20_000, 30)) + communities[:, None]).astype(np.float32)
    monkeypatch.setattr(_tree, "_CELLS_AT_A_TIME", 1000)
    tracemalloc.start()
    try:
        leaves = find_leaves(communities // 3, communities, points)
        grow(communities // 3, leaves, space=points, latent=points)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < points.nbytes


def test_a_cluster_in_one_community_is_a_leaf() -> None:
    leaves = find_leaves(CLUSTERS, np.repeat([0, 1], (212, 80)), space())
    np.testing.assert_array_equal(leaves, CLUSTERS)
