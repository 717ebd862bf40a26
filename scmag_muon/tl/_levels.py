"""The tree of a run's clusters: how it is made, stored and read, and which levels the data speak for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys
from scmag_muon.model._tree import ClusterTree, find_leaves, grow
from scmag_muon.tl._graph_clusters import leaf_communities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmag_muon.tl._start import Start

logger = logging.getLogger(__name__)

_N_LEAVES = 40
_NEARBY = 5
_AS_GOOD = 0.02


@dataclass(frozen=True)
class Levels:
    """The tree of a run, the leaf of each cell, and the names of the run's clusters."""

    tree: ClusterTree
    leaves: np.ndarray
    names: list[str]

    def codes(self, n_clusters: int) -> np.ndarray:
        """Cluster of each cell at a level, integers from 0; the largest is 0, but at the level of the run, which has its own order."""
        level = self.tree.level(n_clusters)
        if n_clusters == self.tree.n_clusters:
            return level[self.leaves]
        sizes = np.bincount(level, weights=self.tree.sizes)
        rank = np.empty(n_clusters, dtype=np.int64)
        rank[np.argsort(-sizes, kind="stable")] = np.arange(n_clusters)
        return rank[level][self.leaves]

    def labels(self, n_clusters: int) -> pd.Categorical:
        """The same by name: those of the run at its own level, else ``"0"`` for the largest and so on."""
        codes = self.codes(n_clusters)
        named = self.names if n_clusters == self.tree.n_clusters else [str(i) for i in range(n_clusters)]
        return pd.Categorical.from_codes(codes, categories=pd.Index(named)).remove_unused_categories()


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


def read_levels(mdata: MuData, key: str) -> Levels:
    """The tree that a run wrote; cells may have been taken out since."""
    _mudata.check_mudata(mdata)
    record, column = mdata.uns.get(key), Keys.leaf(key)
    if not _mudata.is_record(record, "scmag"):
        raise KeyError(f"No run in mdata.uns[{key!r}]. Make it with scmag_muon.tl.scmag(mdata, key_added={key!r}).")
    again = f"Make the run anew with scmag_muon.tl.scmag(mdata, key_added={key!r})."
    if not isinstance(record.get("tree"), Mapping):
        raise KeyError(f"The run {key!r} was made by a release that kept no tree of its clusters. {again}")
    if column not in mdata.obs:
        raise KeyError(f"No leaves of the tree in mdata.obs[{column!r}]. {again}")
    stored = record["tree"]
    n_leaves = len(stored["n_cells"])
    leaves = pd.to_numeric(mdata.obs[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    strange = ~np.isin(leaves, np.arange(n_leaves))
    same_cells = str(record["made_from"]["cells"]) == _fingerprint.of_cells(mdata.obs_names)
    if strange.any():
        first = str(mdata.obs_names[strange][0])
        raise ValueError(
            f"mdata.obs[{column!r}] holds no leaf of the tree for {int(strange.sum())} cells, the first of them {first!r}. {again}"
        )
    leaves = leaves.astype(np.int64)
    if same_cells and _fingerprint.of_labels(mdata.obs_names, leaves.astype(str)) != str(stored["leaves"]):
        raise ValueError(f"mdata.obs[{column!r}] has changed since the run. {again}")
    tree = ClusterTree(
        np.asarray(stored["joins"], dtype=np.int64).reshape(n_leaves - 1, 2),
        np.asarray(stored["separation"], dtype=float).reshape(n_leaves - 1),
        np.asarray(stored["n_cells"], dtype=np.int64),
        np.asarray(stored["cluster"], dtype=np.int64),
    )
    return Levels(tree, leaves, [str(name) for name in np.atleast_1d(stored["names"])])


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
