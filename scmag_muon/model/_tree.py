"""How a tree of clusters grows: leaves within the clusters of a run, joined to these, and these to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial.distance import cdist

from scmag_muon.manifold.tree import ClusterTree
from scmag_muon.model._clustering import (
    centroid_joins,
    group_sums,
    median_distance,
    whitening,
    within_covariance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_STANDARD_ERRORS = 2
_CELLS_AT_A_TIME = 2**16
FEWEST_CELLS = 10
"""Of a leaf: as many as a community has on average at the finest."""


def find_leaves(clusters: np.ndarray, communities: np.ndarray, space: np.ndarray) -> np.ndarray:
    """Divide clusters by communities of their cells.

    Each community with ten cells or more in the cluster that holds most of it becomes a leaf. The other cells of the cluster
    (parts of communities of other clusters, small communities) go to the leaf with the nearest mean, distances being in units
    of the spread within clusters. A cluster with fewer than two such communities is one leaf.

    Parameters
    ----------
    clusters, communities
        Integers from 0 without gaps, shape ``(n_obs,)``.
    space
        Joint space, shape ``(n_obs, n_components)``.

    Returns
    -------
    Integers from 0, shape ``(n_obs,)``.
    """
    white = _means(space, clusters)[2]
    crossed = np.zeros((clusters.max() + 1, communities.max() + 1), dtype=np.int64)
    np.add.at(crossed, (clusters, communities), 1)
    home = crossed.argmax(axis=0)
    is_home = home[communities] == clusters
    means = _means(space, np.where(is_home, communities, crossed.shape[1]))[0] @ white
    leaves = np.empty(len(clusters), dtype=np.int64)
    n_leaves = 0
    for cluster, sizes in enumerate(crossed):
        cells = np.flatnonzero(clusters == cluster)
        own = np.flatnonzero((home == cluster) & (sizes >= FEWEST_CELLS))
        if len(own) < 2:
            own = own[:0]
            leaves[cells] = n_leaves
        else:
            place = np.full(crossed.shape[1], -1)
            place[own] = np.arange(len(own))
            leaf = place[communities[cells]]
            leaves[cells] = n_leaves + leaf
            others = cells[leaf < 0]
            for part in np.split(others, range(_CELLS_AT_A_TIME, len(others), _CELLS_AT_A_TIME)):
                leaves[part] = n_leaves + cdist(space[part] @ white, means[own], "sqeuclidean").argmin(axis=1)
        n_leaves += max(len(own), 1)
    return leaves


def grow(
    clusters: np.ndarray,
    leaves: np.ndarray,
    *,
    space: np.ndarray,
    latent: np.ndarray,
    communities: np.ndarray | None = None,
    profiles: np.ndarray | None = None,
    profile_weight: float = 1.0,
) -> ClusterTree:
    """Join leaves to the clusters of a run, and these to one.

    One rule serves for all joins: always the two groups whose means are nearest, in units of the spread within groups, whatever
    their size, so that a small group that lies apart is kept longer than the halves of a large one. Up to the clusters of the
    run, distances are those of the joint space *before* fitting: the network was trained to draw the cells of a cluster together,
    and fitting draws neighbours together, so that a gap within a cluster is judged where neither has been at work. From there
    on clusters are joined as the run joined communities to them: by their means in the clustering space and in expression.

    Parameters
    ----------
    clusters
        Clusters of the run, integers from 0 without gaps, shape ``(n_obs,)``.
    leaves
        Finer groups, each within one cluster, integers from 0 without gaps, shape ``(n_obs,)``.
    space
        Joint space, shape ``(n_obs, n_components)``.
    latent
        Clustering space Zc, shape ``(n_obs, n_latent)``.
    communities, profiles, profile_weight
        A division of the cells, the mean expression of each of its communities (see
        :func:`~scmag_muon.model._clustering.join_communities`), and how much that counts; without it, only Zc does.
    """
    n_leaves, n_clusters = int(leaves.max()) + 1, int(clusters.max()) + 1
    cluster_of_leaf = np.empty(n_leaves, dtype=np.int64)
    cluster_of_leaf[leaves] = clusters
    means, sizes, white = _means(space, leaves)
    means = means @ white
    below = centroid_joins(means, sizes, n_clusters, within=cluster_of_leaf)
    centers, _, white = _means(latent, clusters)
    points, chance = centers @ white, 0.0
    if communities is not None and profiles is not None and n_clusters > 1:
        crossed = np.zeros((n_clusters, len(profiles)))
        np.add.at(crossed, (clusters, communities), 1)
        expression = crossed / crossed.sum(axis=1, keepdims=True) @ profiles
        unit = median_distance(expression) / np.sqrt(profile_weight)
        points, chance = (
            np.hstack([points / median_distance(points), expression / unit]),
            (_STANDARD_ERRORS / unit) ** 2,
        )
    above = centroid_joins(points, np.bincount(clusters), 1, chance=chance)
    first = [int(np.flatnonzero(cluster_of_leaf == cluster)[0]) for cluster in range(n_clusters)]
    order = below + [(first[one], first[other]) for one, other in above]
    joins, separation = _as_linkage(order, means, sizes)
    return ClusterTree(joins, separation, sizes, cluster_of_leaf)


def _as_linkage(
    order: Sequence[tuple[int, int]], means: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of each join numbered as SciPy does, and the distance of the two means; pairs name any leaf of each side."""
    n_leaves = len(sizes)
    node, means, weights = np.arange(n_leaves), means.copy(), sizes.astype(float)
    joins, separation = np.empty((n_leaves - 1, 2), dtype=np.int64), np.empty(n_leaves - 1)
    group = np.arange(n_leaves)  # the leaf that stands for the node of each leaf
    for i, pair in enumerate(order):
        one, other = group[pair[0]], group[pair[1]]
        joins[i] = sorted((node[one], node[other]))
        separation[i] = np.linalg.norm(means[one] - means[other])
        means[one] = np.average(means[[one, other]], axis=0, weights=weights[[one, other]])
        weights[one] += weights[other]
        group[group == other] = one
        node[one] = n_leaves + i
    return joins, separation


def _means(points: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of each group, its number of cells, and the whitening of the spread within groups, of some cells at a time."""
    n_groups, n_dims = int(groups.max()) + 1, points.shape[1]
    sizes, sums, products = (
        torch.zeros(shape, dtype=torch.float64) for shape in (n_groups, (n_groups, n_dims), (n_dims, n_dims))
    )
    for start in range(0, len(points), _CELLS_AT_A_TIME):
        cells = slice(start, start + _CELLS_AT_A_TIME)
        z = torch.from_numpy(points[cells].astype(np.float64))
        of_part = group_sums(z, torch.from_numpy(groups[cells]), n_groups)
        sizes += of_part[0]
        sums += of_part[1]
        products += z.T @ z
    means = sums / sizes.clamp_min(1).unsqueeze(1)
    white = whitening(within_covariance(products, len(points), means, sizes, sums))
    return means.numpy(), sizes.numpy().astype(np.int64), white.numpy()
