"""Columns of cells that a user or a run names: whether they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon import _mudata

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData


def known_labels(mdata: MuData, column: str, *, argument: str) -> pd.Series:
    """A column of known labels, which some cells have; ``"unknown"`` is none, as :func:`scmag_muon.metrics.clustering_scores` has it."""
    known = _mudata.get_obs_column(mdata, column, argument=argument)
    if (known.isna() | known.isin(["unknown"])).all():
        raise ValueError(
            f"{argument}={column!r} is missing for all {mdata.n_obs} cells, or unknown. Leave it out, or fill the column."
        )
    return known


def batches_of_run(mdata: MuData, key: str) -> str | None:
    """The column of batches that the run was told of, where it is there."""
    column = mdata.uns[key].get("params", {}).get("batch_key") if key in mdata.uns else None
    if column is None:
        return None
    try:
        _mudata.get_obs_column(mdata, column, argument="batch_key")
    except KeyError:
        return None
    return str(column)
