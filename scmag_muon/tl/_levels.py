"""The tree of a run's clusters: how it is made and stored, and which levels the data speak for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from scmag_muon import _fingerprint
from scmag_muon._keys import Keys
from scmag_muon._levels import Levels
from scmag_muon.model._tree import find_leaves, grow
from scmag_muon.tl._graph_clusters import leaf_communities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.tl._start import Start

logger = logging.getLogger(__name__)

_N_LEAVES = 40
_NEARBY = 5
_AS_GOOD = 0.02


def space_of_leaves(manifold_key: str, *, complete: bool) -> str:
    """The joint space before fitting; where cells lack modalities, whose blocks are guesses there, the fitted one."""
    return Keys.joint_embedding(manifold_key) if complete else Keys.fitted_embedding(manifold_key)


def grow_levels(
    labels: np.ndarray, start: Start, *, space: np.ndarray, latent: np.ndarray, random_state: int | None
) -> Levels:
    """The tree of a run.

    Leaves are communities of the joint space, forty or twice as many as there are clusters. Of a run from k-means, which has no
    communities, they are its clusters.
    """
    present, clusters = np.unique(labels, return_inverse=True)
    communities, profiles = _division(start, space, max(_N_LEAVES, 2 * len(present)), random_state)
    leaves = clusters if communities is None else find_leaves(clusters, communities, space)
    tree = grow(
        clusters,
        leaves,
        space=space,
        latent=latent,
        communities=communities,
        profiles=profiles,
        profile_weight=start.profile_weight,
    )
    return Levels(tree, leaves, [str(cluster) for cluster in present])


def _division(
    start: Start, space: np.ndarray, n_leaves: int, random_state: int | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The coarsest division of the space into so many communities, if there is one, and their expression."""
    if start.labels is None:
        return None, None
    if start.profiles is None:
        return leaf_communities(space, n_leaves, random_state=random_state), None
    columns = range(start.labels.shape[1] - start.n_unfitted if start.n_unfitted else 0, start.labels.shape[1])
    numbers = {column: int(start.labels[:, column].max()) + 1 for column in columns}
    column = next((column for column, n in numbers.items() if n >= n_leaves), max(numbers, key=numbers.__getitem__))
    return start.labels[:, column], start.profiles[column]


def to_record(levels: Levels, obs_names: pd.Index) -> dict[str, Any]:
    """What ``uns`` holds of a tree: plain arrays."""
    tree = levels.tree
    return {
        "joins": tree.joins,
        "separation": tree.separation,
        "height": tree.heights,
        "n_cells": tree.sizes,
        "cluster": tree.clusters,
        "names": np.array(levels.names, dtype=str),
        "leaves": _fingerprint.of_labels(obs_names, levels.leaves.astype(str)),
    }


def support(levels: Levels, compared: Sequence[np.ndarray]) -> dict[str, Any]:
    """How well the levels near the run's agree with communities at several resolutions, and which do as well as it."""
    tree = levels.tree
    near = range(max(tree.n_clusters - _NEARBY, 1), min(tree.n_clusters + _NEARBY, tree.n_leaves) + 1)
    agreement = {n: float(np.mean([adjusted_rand_score(levels.codes(n), other) for other in compared])) for n in near}
    table = pd.DataFrame({"n_clusters": list(near), "agreement": list(agreement.values())})
    table["separation"] = [float(tree.separation[tree.n_leaves - n]) if n > 1 else np.nan for n in near]
    as_good = [n for n in near if n != tree.n_clusters and agreement[n] >= agreement[tree.n_clusters] - _AS_GOOD]
    sure = ", ".join(map(str, as_good)) or "none"
    logger.info("Other numbers of clusters that agree with the communities as well as %d: %s.", tree.n_clusters, sure)
    return {"levels": table, "as_good": np.array(as_good, dtype=np.int64)}
