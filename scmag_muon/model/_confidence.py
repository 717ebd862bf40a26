"""How likely a cell is in the right cluster: votes of its nearest cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.neighbors import nearest_in, nearest_neighbors

if TYPE_CHECKING:
    from collections.abc import Callable

N_VOTES = 50
"""Nearest cells that vote, at most."""
_FEWEST_VOTES = 5
_MOST_VOTERS = 50_000
_ROWS_AT_A_TIME = 50_000


def confidence(joint: np.ndarray, latent: np.ndarray | None, labels: np.ndarray) -> np.ndarray:
    """How likely each cell is in its cluster, between 0 and 1, shape ``(n_obs,)``: the mean of shares in three spaces.

    One half is the share of votes (:func:`share_of_neighbors`) in the clustering space, the other the mean of the shares in the even and
    in the odd dimensions of the joint space before fitting and training. Each errs: training pulls cells to their clusters, so that
    neighbours there agree too often where clusters are wrong; half of the dimensions tell less than all, so that they agree too
    seldom.

    Parameters
    ----------
    joint
        Coordinates in the joint space *before* manifold fitting and training, ``(n_obs, n_components)``.
    latent
        Coordinates in the clustering space Zc, ``(n_obs, n_latent)``; ``None`` where it is not there: the first half is all.
    labels
        Cluster of each cell, shape ``(n_obs,)``: of any level of a tree, names or numbers.
    """
    halves = [joint[:, ::2], joint[:, 1::2]] if joint.shape[1] > 1 else [joint]
    of_joint = np.mean([share_of_neighbors(half, labels) for half in halves], axis=0)
    return of_joint if latent is None else (of_joint + share_of_neighbors(latent, labels)) / 2


def share_of_neighbors(
    space: np.ndarray, labels: np.ndarray, *, n_votes: int = N_VOTES, most_voters: int = _MOST_VOTERS
) -> np.ndarray:
    r"""Share of each cell's nearest cells that are in its own cluster, between 0 and 1, shape ``(n_obs,)``.

    Each cell asks as many neighbours as half of its cluster has cells, at least 5 and at most ``n_votes``, so that cells of small
    clusters are not outvoted. Of :math:`k` votes :math:`m` are for the own cluster: the share is
    :math:`(m + 1/2) / (k + 1)`, its posterior mean under Jeffreys' prior, since few votes prove little.

    Parameters
    ----------
    space
        Coordinates of the cells, ``(n_obs, n_dimensions)``.
    labels
        Cluster of each cell, shape ``(n_obs,)``.
    n_votes
        Most neighbours to ask.
    most_voters
        Of more cells a random sample of so many votes.
    """
    n_obs = len(space)
    _, codes = np.unique(np.asarray(labels), return_inverse=True)
    voters = np.arange(n_obs)
    if n_obs > most_voters:
        voters = np.sort(np.random.default_rng(0).choice(n_obs, most_voters, replace=False))
    sizes = np.bincount(codes[voters], minlength=codes.max() + 1)
    asked = np.minimum(np.clip(sizes[codes] // 2, _FEWEST_VOTES, n_votes), len(voters) - 1)
    if not asked.any():
        return np.ones(n_obs)
    x = np.ascontiguousarray(space, dtype=np.float32)
    if len(voters) == n_obs:
        return _share(codes[nearest_neighbors(x, int(asked.max()) + 1)[:, 1:]] == codes[:, None], asked)
    share, of_voters = np.empty(n_obs), x[voters]
    for start in range(0, n_obs, _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, n_obs))
        nearest = voters[nearest_in(x[rows], of_voters, int(asked.max()) + 1)]
        others = nearest != rows[:, None]
        order = np.argsort(~others, axis=1, kind="stable")  # the cell itself, if it may vote, comes last
        same = np.take_along_axis((codes[nearest] == codes[rows, None]) & others, order, axis=1)
        share[rows] = _share(same, asked[rows])
    return share


def confidence_among(
    nearest: Callable[[int], np.ndarray], labels: np.ndarray, of_reference: np.ndarray, *, n_votes: int = N_VOTES
) -> np.ndarray:
    """As :func:`share_of_neighbors` for further cells, whose nearest cells among a reference vote, shape ``(n_obs,)``.

    Parameters
    ----------
    nearest
        Gives the k nearest reference cells of each cell, ``(n_obs, k)``, in order.
    labels
        Clusters of the cells.
    of_reference
        Clusters of the reference's cells.
    n_votes
        Most neighbours to ask.
    """
    names, codes, sizes = np.unique(of_reference, return_inverse=True, return_counts=True)
    own = np.searchsorted(names, labels).clip(max=len(names) - 1)
    known = names[own] == labels
    asked = np.minimum(np.clip(sizes[own] // 2, _FEWEST_VOTES, n_votes), len(of_reference))
    return _share((codes[nearest(int(asked.max(initial=1)))] == own[:, None]) & known[:, None], asked)


def _share(same: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Jeffreys' estimate of the share of true entries among the first ``asked`` of each row."""
    votes = (same & (np.arange(same.shape[1]) < asked[:, None])).sum(axis=1)
    return (votes + 0.5) / (asked + 1)
