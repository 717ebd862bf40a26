"""What carries each split of a run's tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.stats import rankdata

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_number
from scmag_muon._feature_names import is_housekeeping, is_isotype_control
from scmag_muon._keys import Keys
from scmag_muon._levels import Levels, read_levels
from scmag_muon._made_from import made_from

if TYPE_CHECKING:
    from mudata import MuData

_FURTHER = 3
_MOST_CELLS = 500  # of each side: the AUROC is then known to about .02
_FEWEST_CELLS = 2


def cluster_tree(
    mdata: MuData, *, n_clusters: int | None = None, n_features: int = 3, key: str = Keys.SCMAG, random_state: int = 0
) -> pd.DataFrame:
    """Rank the features that tell the two sides of each split of the tree apart.

    Parameters
    ----------
    mdata
        Raw counts and what :func:`scmag_muon.tl.scmag` left.
    n_clusters
        The finest level to look at; ``None`` takes three clusters more than the run has, if the tree has them.
    n_features
        Features to keep for each side and modality.
    key
        The ``key_added`` of that run.
    random_state
        Seed of the sample where a side has more than 500 cells.

    Returns
    -------
    A row per split, side, modality and feature, the best first: ``n_clusters``, the level that the split makes; ``node``, the side
    in which the feature is higher, as in ``uns[key]["tree"]["joins"]``; ``n_cells`` of that side; ``modality``, ``feature`` and
    ``auroc``, the chance that a cell of this side has more of it than one of the other. Features are those that took part in
    the run, without isotype controls, ribosomal and mitochondrial genes. Written to ``mdata.uns[f"{key}_cluster_tree"]`` as
    ``table``, with ``params``.

    Raises
    ------
    KeyError
        Where there is no run, or it has no tree.
    ValueError
        Where the tree has no such level, or the leaves have changed since the run.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.cluster_tree(mdata, n_clusters=3, n_features=1)
    >>> sorted(set(table["n_clusters"]))
    [2, 3]
    """
    levels = read_levels(mdata, key)
    slot = Keys.cluster_tree(key)
    _mudata.check_free_record(mdata, slot, "cluster_tree", argument="key")
    n_leaves = levels.tree.n_leaves
    n_clusters = check_number("n_clusters", n_clusters, integer=True, low=1, high=n_leaves, optional=True)
    finest = min(levels.tree.n_clusters + _FURTHER, n_leaves) if n_clusters is None else n_clusters
    n_features = check_number("n_features", n_features, integer=True, low=1)
    rng = np.random.default_rng(check_number("random_state", random_state, integer=True, low=0))
    names = _values.used_modalities(mdata, key)
    samples = {n: _sides(levels, n, rng) for n in range(2, finest + 1)}
    rows = [frame for name in names for frame in _of_modality(mdata, name, samples, n_features, key)]
    columns = ["n_clusters", "node", "n_cells", "modality", "feature", "auroc"]
    table = pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
    table = table.sort_values(["n_clusters", "node", "auroc"], ascending=[True, True, False], ignore_index=True)
    for text, categories in (("modality", names), ("feature", None)):
        table[text] = pd.Categorical(table[text].astype(str), categories=categories)
    layers = {name: _values.counts_layer(mdata, key, name) for name in names}
    contents = {"params": {"key": key, "n_clusters": finest, "n_features": n_features}, "table": table}
    sources = made_from(mdata, obs=[Keys.leaf(key)], counts=layers)
    mdata.uns[slot] = _mudata.make_record("cluster_tree", contents, made_from=sources, key=key)
    return table


def _sides(levels: Levels, n_clusters: int, rng: np.random.Generator) -> dict[int, tuple[np.ndarray, int]]:
    """For both nodes of the split that makes a level, its cells, a sample of many, and how many there are."""
    tree, found = levels.tree, {}
    for node in tree.joins[tree.n_leaves - n_clusters]:
        cells = np.flatnonzero(np.isin(levels.leaves, tree.leaves_of(int(node))))
        sample = np.sort(rng.choice(cells, _MOST_CELLS, replace=False)) if len(cells) > _MOST_CELLS else cells
        found[int(node)] = sample, len(cells)
    return found


def _of_modality(
    mdata: MuData, modality: str, samples: dict[int, dict[int, tuple[np.ndarray, int]]], n_features: int, key: str
) -> list[pd.DataFrame]:
    adata = mdata.mod[modality]
    manifold_key = str(mdata.uns[key]["params"]["manifold_key"])
    used = adata.var[manifold_key].to_numpy(dtype=bool) if manifold_key in adata.var else np.ones(adata.n_vars, bool)
    protein = _values.kind_in_use(mdata, key, modality) == "protein"
    used = used & ~(is_isotype_control if protein else is_housekeeping)(adata.var_names)
    values = _values.normalized_counts(mdata, modality, layer=None, key=key, across="cells")[:, np.flatnonzero(used)]
    features = adata.var_names[used].astype(str)
    row = adata.obs_names.get_indexer(mdata.obs_names)
    frames = []
    for n_clusters, sides in samples.items():
        measured = {node: row[cells][row[cells] >= 0] for node, (cells, _) in sides.items()}
        if not len(features) or min(map(len, measured.values())) < _FEWEST_CELLS:
            continue
        one, other = measured
        auroc = _auroc(values[measured[one]], values[measured[other]])
        for node, higher in ((one, auroc), (other, 1 - auroc)):
            best = np.argsort(-higher, kind="stable")[:n_features]
            best = best[higher[best] > 0.5]
            of_side = {"node": node, "n_cells": sides[node][1], "n_clusters": n_clusters, "modality": modality}
            frames.append(pd.DataFrame({**of_side, "feature": features[best], "auroc": higher[best]}))
    return frames


def _auroc(one: Any, other: Any) -> np.ndarray:
    """Of each feature the chance that a cell of one side has more than one of the other, ties counting half."""
    dense = np.vstack([part.toarray() if sp.issparse(part) else np.asarray(part) for part in (one, other)])
    n_one, n_other = one.shape[0], other.shape[0]
    ranks = rankdata(np.ascontiguousarray(dense.T), axis=1)[:, :n_one].sum(axis=1)
    return (ranks - n_one * (n_one + 1) / 2) / (n_one * n_other)
