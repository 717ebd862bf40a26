"""Clusters at every level: a tree whose levels are nested, and of which the clusters of a run are one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClusterTree:
    """Leaves, and the order in which they are joined.

    Parameters
    ----------
    joins
        The two nodes of each join, as in SciPy's ``linkage``: leaves are 0 to n_leaves - 1, and join i makes node
        n_leaves + i. Shape ``(n_leaves - 1, 2)``.
    separation
        Distance of their means in the joint space before fitting, in standard deviations of the cells around the mean of
        their leaf. Shape ``(n_leaves - 1,)``.
    sizes
        Cells of each leaf.
    clusters
        Cluster of the run that holds the leaf, integers from 0.
    """

    joins: np.ndarray
    separation: np.ndarray
    sizes: np.ndarray
    clusters: np.ndarray

    @property
    def n_leaves(self) -> int:
        """Clusters at the finest level."""
        return len(self.sizes)

    @property
    def n_clusters(self) -> int:
        """Clusters of the run."""
        return int(self.clusters.max()) + 1

    @property
    def heights(self) -> np.ndarray:
        """Of each join the largest separation of any join up to it, so that heights rise."""
        return np.maximum.accumulate(self.separation)

    def n_at(self, height: float) -> int:
        """Clusters that are left when all joins up to a height are made."""
        return self.n_leaves - int((self.heights <= height).sum())

    def leaves_of(self, node: int) -> list[int]:
        """The leaves of a node."""
        if node < self.n_leaves:
            return [node]
        return [leaf for child in self.joins[node - self.n_leaves] for leaf in self.leaves_of(int(child))]

    def nodes_at(self, n_clusters: int) -> list[int]:
        """The nodes that are the clusters of a level, in the order in which they were made."""
        made = self.n_leaves - n_clusters
        gone = set(self.joins[:made].ravel().tolist())
        return [node for node in range(self.n_leaves + made) if node not in gone]

    def level(self, n_clusters: int) -> np.ndarray:
        """Cluster of each leaf at a level, integers from 0, shape ``(n_leaves,)``; at the level of the run those of the run."""
        if n_clusters == self.n_clusters:
            return self.clusters
        labels = np.empty(self.n_leaves, dtype=np.int64)
        for i, node in enumerate(self.nodes_at(n_clusters)):
            labels[self.leaves_of(node)] = i
        return labels
