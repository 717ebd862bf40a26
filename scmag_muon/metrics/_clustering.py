"""Agreement of clusters with known labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike


def clustering_scores(
    labels_true: ArrayLike | pd.Series | pd.Categorical,
    labels_pred: ArrayLike | pd.Series | pd.Categorical,
    *,
    ignore: Collection[Any] = ("unknown",),
) -> dict[str, float]:
    r"""Score clusters against known labels.

    All three scores are 1 where the two partitions are the same and do not depend on the names of labels or clusters.
    The adjusted ones are 0 on average for random clusters:

    .. math::

        \mathrm{ARI} = \frac{R - \mathbb{E}[R]}{\max R - \mathbb{E}[R]}, \qquad
        \mathrm{NMI} = \frac{2\, I(U; V)}{H(U) + H(V)}, \qquad
        \mathrm{AMI} = \frac{I(U; V) - \mathbb{E}[I]}{\frac{1}{2}(H(U) + H(V)) - \mathbb{E}[I]},

    with :math:`R` the Rand index, :math:`I` the mutual information and :math:`H` the entropy. Cells without a known
    label do not count.

    Parameters
    ----------
    labels_true
        Known label of each cell, shape ``(n_obs,)``. Cells whose label is ``None``, NaN or named in ``ignore`` are left
        out.
    labels_pred
        Cluster of each cell, in the same order.
    ignore
        Labels in ``labels_true`` that stand for "not known".

    Returns
    -------
    dict
        ``"ARI"`` (adjusted Rand index), ``"NMI"`` (normalised mutual information, arithmetic mean) and ``"AMI"``
        (adjusted mutual information).

    Raises
    ------
    ValueError
        If the two differ in length or, both being a :class:`pandas.Series`, in index; if a scored cell has no cluster;
        or if no cell has a known label.

    Examples
    --------
    >>> from scmag_muon.metrics import clustering_scores
    >>> scores = clustering_scores(["B", "B", "T", "T", "unknown"], [1, 1, 0, 0, 0])
    >>> scores["ARI"], scores["NMI"], scores["AMI"]
    (1.0, 1.0, 1.0)
    """
    true, pred = _scored(labels_true, labels_pred, ignore)
    # Codes, since scikit-learn cannot sort labels of mixed types and warns of floats.
    codes_true, codes_pred = (pd.factorize(labels.to_numpy(dtype=object))[0] for labels in (true, pred))
    return {
        "ARI": float(adjusted_rand_score(codes_true, codes_pred)),
        "NMI": float(normalized_mutual_info_score(codes_true, codes_pred)),
        "AMI": float(adjusted_mutual_info_score(codes_true, codes_pred)),
    }


def type_scores(
    labels_true: ArrayLike | pd.Series | pd.Categorical,
    labels_pred: ArrayLike | pd.Series | pd.Categorical,
    *,
    ignore: Collection[Any] = ("unknown",),
) -> pd.DataFrame:
    """Find the cluster that fits each known type best, and score it.

    The cluster of a type is the one with the highest F1, the harmonic mean of recall and precision. Two types may have
    the same cluster. The mean of the column ``F1`` counts each type alike, however rare it is (macro F1).

    Parameters
    ----------
    labels_true
        Known label of each cell, shape ``(n_obs,)``. Cells whose label is ``None``, NaN or named in ``ignore`` are left
        out.
    labels_pred
        Cluster of each cell, in the same order.
    ignore
        Labels in ``labels_true`` that stand for "not known".

    Returns
    -------
    A row for each type, most cells first: ``n_cells``, ``cluster``, ``recall`` (share of the type's cells that are in the
    cluster), ``precision`` (share of the cluster's cells that are of the type), ``F1``.

    Raises
    ------
    ValueError
        As :func:`clustering_scores` does.

    Examples
    --------
    >>> from scmag_muon.metrics import type_scores
    >>> type_scores(["B", "B", "T", "T"], [1, 1, 1, 0])[["cluster", "recall", "precision", "F1"]].round(2)
      cluster  recall  precision    F1
    B       1     1.0       0.67  0.80
    T       0     0.5       1.00  0.67
    """
    true, pred = _scored(labels_true, labels_pred, ignore)
    counts = pd.crosstab(true.astype(str).to_numpy(), pred.astype(str).to_numpy())
    of_type, of_cluster = counts.sum(axis=1), counts.sum(axis=0)
    f1 = 2 * counts.div(np.add.outer(of_type.to_numpy(), of_cluster.to_numpy()))
    best = f1.to_numpy().argmax(axis=1)
    shared = counts.to_numpy()[np.arange(len(counts)), best]
    table = pd.DataFrame(
        {
            "n_cells": of_type.to_numpy(),
            "cluster": counts.columns[best],
            "recall": shared / of_type.to_numpy(),
            "precision": shared / of_cluster.to_numpy()[best],
            "F1": f1.to_numpy()[np.arange(len(counts)), best],
        },
        index=counts.index.rename(None),
    )
    return table.sort_values("n_cells", ascending=False, kind="stable")


def _scored(labels_true: Any, labels_pred: Any, ignore: Collection[Any]) -> tuple[pd.Series, pd.Series]:
    """Label and cluster of the cells that have a known label."""
    true, pred = _as_series("labels_true", labels_true), _as_series("labels_pred", labels_pred)
    if len(true) != len(pred):
        raise ValueError(f"`labels_true` has {len(true)} cells but `labels_pred` has {len(pred)}.")
    both_indexed = isinstance(labels_true, pd.Series) and isinstance(labels_pred, pd.Series)
    if both_indexed and not true.index.equals(pred.index):
        raise ValueError(
            "`labels_true` and `labels_pred` have different indices, so their rows do not pair up. "
            "Align them with labels_pred.reindex(labels_true.index)."
        )
    unknown = [ignore] if isinstance(ignore, str) else list(ignore)
    scored = (true.notna() & ~true.isin(unknown)).to_numpy()
    if not scored.any():
        raise ValueError("`labels_true` holds no known label, so there is nothing to score.")
    if pred.isna().to_numpy()[scored].any():
        raise ValueError("`labels_pred` is missing for cells with a known label. Drop those cells from both.")
    return true[scored], pred[scored]


def _as_series(name: str, labels: ArrayLike | pd.Series | pd.Categorical) -> pd.Series:
    if np.ndim(labels) != 1:
        raise ValueError(f"`{name}` must be one-dimensional, got {np.ndim(labels)} dimensions.")
    return labels if isinstance(labels, pd.Series) else pd.Series(labels)
