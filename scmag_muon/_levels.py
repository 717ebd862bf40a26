"""The tree of a run's clusters as it is read from a MuData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys
from scmag_muon.manifold.tree import ClusterTree

if TYPE_CHECKING:
    from mudata import MuData


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


def run_of(mdata: MuData, key: str) -> str:
    """The run that clusters belong to: ``key`` itself, or the run from which ``tl.cut`` or ``tl.subcluster`` made them."""
    record = mdata.uns.get(key)
    if not any(_mudata.is_record(record, verb) for verb in ("cut", "subcluster")):
        return key
    params = record["params"]
    return str(params.get("run", params["key"]))


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
