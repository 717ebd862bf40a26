"""How well single features tell known types apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def marker_auroc(
    values: pd.DataFrame,
    labels: Any,
    *,
    markers: Mapping[str, Sequence[str]],
    ignore: Collection[Any] = ("unknown",),
) -> pd.DataFrame:
    """Area under the ROC curve of each marker for its type against all other known cells.

    Parameters
    ----------
    values
        Cells by features, as raw or denoised counts; only the order of the values matters.
    labels
        Known type of each cell, in the same order.
    markers
        Features of each type.
    ignore
        Labels that stand for "not known"; these cells and cells without a label are left out.

    Returns
    -------
    A row per type and marker: ``label``, ``feature``, ``auroc``: 0.5 where the feature says nothing, 1 where it tells
    perfectly, below 0.5 where the type has less of it than others.

    Raises
    ------
    KeyError
        Where a marker is no column of ``values``.
    ValueError
        Where lengths differ, or a type has no cell, or every cell is of that type.

    Notes
    -----
    Compare raw with denoised values on cells that neither the network nor the choice of markers has seen, as
    :func:`scmag_muon.tl.held_out_markers` does; else the comparison is circular.

    Examples
    --------
    >>> import pandas as pd
    >>> from scmag_muon.metrics import marker_auroc
    >>> values = pd.DataFrame({"CD19": [5, 4, 0, 1], "CD3": [0, 2, 2, 9]})
    >>> marker_auroc(values, ["B", "B", "T", "T"], markers={"B": ["CD19"], "T": ["CD3"]})["auroc"].tolist()
    [1.0, 0.875]
    """
    column = pd.Series(np.asarray(labels, dtype=object))
    if len(column) != len(values):
        raise ValueError(f"`labels` names {len(column)} cells, `values` holds {len(values)}.")
    known = (column.notna() & ~column.isin([ignore] if isinstance(ignore, str) else list(ignore))).to_numpy()
    column = column[known].astype(str)
    rows = []
    for label, features in markers.items():
        inside = (column == str(label)).to_numpy()
        if inside.all() or not inside.any():
            raise ValueError(f"Of {len(inside)} known cells, {int(inside.sum())} are {label!r}: nothing to tell apart.")
        for feature in features:
            if feature not in values:
                raise KeyError(f"`values` has no column {feature!r}.")
            rows.append((str(label), feature, float(roc_auc_score(inside, values[feature].to_numpy()[known]))))
    return pd.DataFrame(rows, columns=["label", "feature", "auroc"])
