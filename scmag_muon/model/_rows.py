"""Which rows ``indices`` means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def rows_of(indices: Any, names: pd.Index) -> np.ndarray:
    """Positions of the cells asked for, in the order asked.

    Parameters
    ----------
    indices
        ``None`` for all; a slice; a boolean for each cell; positions, those below 0 from the end; or names. Cells may be
        asked for twice.
    names
        Names of all cells.

    Raises
    ------
    IndexError
        Where a position is out of range.
    KeyError
        Where there is no cell of a name.
    ValueError
        Where booleans are not one for each cell, or there is more than one dimension.
    TypeError
        Where the values are none of these.
    """
    n_obs = len(names)
    if indices is None:
        return np.arange(n_obs)
    if isinstance(indices, slice):
        return np.arange(n_obs)[indices]
    if (
        isinstance(indices, pd.Series)
        and pd.api.types.is_bool_dtype(indices.dtype)
        and set(indices.index) == set(names)
    ):
        indices = indices.reindex(names)  # booleans about cells belong to their names
    values = np.atleast_1d(np.asarray(list(indices) if isinstance(indices, range) else indices))
    if values.ndim != 1:
        raise ValueError(f"`indices` must have one dimension, got {values.ndim}.")
    if values.size == 0 and values.dtype != bool:
        return np.empty(0, dtype=np.int64)
    if values.dtype == object:
        values = np.array(values.tolist())
    if values.dtype == bool:
        if len(values) != n_obs:
            raise ValueError(f"`indices` holds {len(values)} booleans for {n_obs} cells.")
        return np.flatnonzero(values)
    if values.dtype.kind in "iu":
        return _positions(values, n_obs)
    if values.dtype.kind in "UT":
        return _named(values, names)
    raise TypeError(f"`indices` must be positions, names, booleans or a slice, got values of type {values.dtype}.")


def _positions(values: np.ndarray, n_obs: int) -> np.ndarray:
    outside = values[(values < -n_obs) | (values >= n_obs)]
    if len(outside):
        raise IndexError(f"`indices` has {len(outside)} positions out of range for {n_obs} cells, first {outside[0]}.")
    return np.where(values < 0, values + n_obs, values).astype(np.int64)


def _named(values: np.ndarray, names: pd.Index) -> np.ndarray:
    positions = names.get_indexer(pd.Index(values.astype(object)))
    missing = values[positions < 0]
    if len(missing):
        raise KeyError(f"`indices` names {len(missing)} cells that are not there, first {str(missing[0])!r}.")
    return positions.astype(np.int64)
