"""How well a cluster, or a whole clustering, comes back in other clusterings of the same cells."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

if TYPE_CHECKING:
    from collections.abc import Sequence


def cluster_stability(labels: Any, others: Sequence[Any]) -> pd.DataFrame:
    r"""Best Jaccard index of each cluster with any cluster of other clusterings.

    :math:`\max_B |A \cap B| / |A \cup B|` for cluster A over the clusters B of each other clustering (Hennig 2007): 1 where
    the same cells come back as a cluster; by his rule of thumb, above 0.75 is stable and below 0.5 dissolved.

    Parameters
    ----------
    labels
        Cluster of each cell, shape ``(n_obs,)``.
    others
        Other clusterings of the same cells, in the same order.

    Returns
    -------
    A row per cluster, a column per other clustering, 0 to 1.

    Raises
    ------
    ValueError
        Where lengths differ, a cell has no cluster, or there is no other clustering.

    Examples
    --------
    >>> from scmag_muon.metrics import cluster_stability
    >>> cluster_stability(["a", "a", "b", "b"], [[1, 1, 0, 0], [0, 0, 0, 0]]).to_numpy().tolist()
    [[1.0, 0.5], [1.0, 0.5]]
    """
    if not len(others):
        raise ValueError("`others` is empty: name at least one other clustering.")
    reference = pd.Categorical(labels).remove_unused_categories()
    columns = []
    for i, each in enumerate(others):
        other = pd.Categorical(each).remove_unused_categories()
        if len(other) != len(reference):
            raise ValueError(f"`labels` names {len(reference)} cells, clustering {i} of `others` {len(other)}.")
        if (reference.codes < 0).any() or (other.codes < 0).any():
            raise ValueError("Every cell needs a cluster in `labels` and in `others`.")
        both = np.zeros((len(reference.categories), len(other.categories)))
        np.add.at(both, (reference.codes, other.codes), 1)
        either = both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True) - both
        columns.append((both / either).max(axis=1))
    return pd.DataFrame(np.column_stack(columns), index=pd.Index(reference.categories.astype(str), name="cluster"))


def agreements(clusterings: Sequence[np.ndarray]) -> np.ndarray:
    """Adjusted Rand index of each pair of clusterings of the same cells, ``(n_clusterings, n_clusterings)``."""
    found = np.eye(len(clusterings))
    for i, j in combinations(range(len(clusterings)), 2):
        found[i, j] = found[j, i] = adjusted_rand_score(clusterings[i], clusterings[j])
    return found


def most_typical(clusterings: Sequence[np.ndarray]) -> int:
    """Which of several clusterings of the same cells agrees best with the others: the highest mean adjusted Rand index."""
    return int(np.argmax(np.sum(agreements(clusterings), axis=1)))
