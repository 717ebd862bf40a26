"""How likely a cell is in the right cluster: the vote of its nearest cells, in a space that no clustering has shaped."""

from __future__ import annotations

import numpy as np

from scmag_muon.manifold.neighbors import nearest_in, nearest_neighbors

N_VOTES = 50
"""Nearest cells that vote, at most."""
_FEWEST_VOTES = 5


def confidence(
    space: np.ndarray, labels: np.ndarray, *, n_votes: int = N_VOTES, random_state: int | None = 0
) -> np.ndarray:
    r"""Share of each cell's nearest cells that are in its own cluster, between 0 and 1, shape ``(n_obs,)``.

    Each cell asks as many neighbours as half of its cluster has cells, at least 5 and at most ``n_votes``, so that cells of small
    clusters are not outvoted. Of :math:`k` votes :math:`m` are for the own cluster: the confidence is
    :math:`(m + 1/2) / (k + 1)`, the posterior mean of the share under Jeffreys' prior, since few votes prove little.

    Parameters
    ----------
    space
        Coordinates of the cells, ``(n_obs, n_dimensions)``: the joint space *before* manifold fitting and training. Fitting and
        training pull cells to their clusters, so that neighbours in these spaces agree also where the clusters are wrong.
    labels
        Cluster of each cell, shape ``(n_obs,)``: of any level of a tree, names or numbers.
    n_votes
        Most neighbours to ask.
    random_state
        Seed of the approximate search above 50,000 cells.
    """
    codes, asked = _votes_of(labels, min(n_votes, len(space) - 1))
    if not asked.any():
        return np.ones(len(space))
    x = np.ascontiguousarray(space, dtype=np.float32)
    neighbors = nearest_neighbors(x, int(asked.max()) + 1, random_state=random_state)[:, 1:]
    return _share(codes[neighbors] == codes[:, None], asked)


def confidence_among(
    space: np.ndarray, labels: np.ndarray, reference: np.ndarray, of_reference: np.ndarray, *, n_votes: int = N_VOTES
) -> np.ndarray:
    """As :func:`confidence` for further cells, whose nearest cells among a reference vote, shape ``(n_obs,)``.

    Parameters
    ----------
    space, labels
        Coordinates and clusters of the further cells.
    reference, of_reference
        Coordinates of the reference's cells, in the same space, and their clusters.
    n_votes
        Most neighbours to ask.
    """
    names, codes, sizes = np.unique(of_reference, return_inverse=True, return_counts=True)
    own = np.searchsorted(names, labels).clip(max=len(names) - 1)
    known = names[own] == labels
    asked = np.minimum(np.clip(sizes[own] // 2, _FEWEST_VOTES, n_votes), len(reference))
    x, among = (np.ascontiguousarray(each, dtype=np.float32) for each in (space, reference))
    neighbors = nearest_in(x, among, int(asked.max(initial=1)))
    return _share((codes[neighbors] == own[:, None]) & known[:, None], asked)


def _votes_of(labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters as numbers from 0, and how many neighbours each cell asks."""
    _, codes, sizes = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return codes, np.minimum(np.clip(sizes[codes] // 2, _FEWEST_VOTES, None), most)


def _share(same: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Jeffreys' estimate of the share of true entries among the first ``asked`` of each row."""
    votes = (same & (np.arange(same.shape[1]) < asked[:, None])).sum(axis=1)
    return (votes + 0.5) / (asked + 1)
