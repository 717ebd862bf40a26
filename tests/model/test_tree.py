"""The tree of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.cluster.hierarchy import is_valid_linkage

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


def test_a_cluster_in_one_community_is_a_leaf() -> None:
    leaves = find_leaves(CLUSTERS, np.repeat([0, 1], (212, 80)), space())
    np.testing.assert_array_equal(leaves, CLUSTERS)
