"""Modalities with a row for every cell of the MuData, also for cells that lack them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit


def padded(counts: sp.csr_array, cells: np.ndarray, n_obs: int) -> sp.csr_array:
    """Counts of all cells, zeros where the modality was not measured, CSR, shape ``(n_obs, n_vars)``; values are shared."""
    if len(cells) == n_obs:
        return counts
    indptr = np.zeros(n_obs + 1, dtype=counts.indptr.dtype)
    indptr[cells + 1] = np.diff(counts.indptr)
    return sp.csr_array(
        (counts.data, counts.indices, np.cumsum(indptr, dtype=indptr.dtype)), shape=(n_obs, counts.shape[1])
    )


def borrowed(counts: sp.csr_array, fit: ManifoldFit, name: str, *, random_state: int) -> sp.csr_array:
    """Counts of all cells, where the modality was not measured those of a cell drawn from the neighbourhood."""
    cells = fit.modality(name).cells
    donors = np.arange(fit.n_obs)
    lacking = np.setdiff1d(donors, cells, assume_unique=True)
    near = fit.neighborhoods[name]["rbf"][lacking]
    drawn = np.random.default_rng(random_state).integers(near.shape[1], size=len(lacking))
    donors[lacking] = near[np.arange(len(lacking)), drawn]
    return counts[np.searchsorted(cells, donors)]


def fitted_everywhere(values: np.ndarray, fit: ManifoldFit, name: str, counts: sp.csr_array) -> np.ndarray:
    """Fitted rows of all cells, ``(n_obs, n_vars)``, from those of the cells that have the modality and their counts."""
    cells = fit.modality(name).cells
    if len(cells) == fit.n_obs:
        return values
    lacking = np.setdiff1d(np.arange(fit.n_obs), cells, assume_unique=True)
    result = np.empty((fit.n_obs, values.shape[1]), dtype=np.float32)
    result[cells] = values
    result[lacking] = fit.rows(name, lacking, counts=counts)
    return result


def in_all_cells(values: np.ndarray, mdata: MuData, name: str) -> np.ndarray:
    """Of a value for each row of a modality, one for each cell of the MuData; not a number where it was not measured."""
    rows = mdata.obs_names.get_indexer(mdata.mod[name].obs_names)
    if np.array_equal(rows, np.arange(mdata.n_obs)):
        return values
    result = np.full((mdata.n_obs, *values.shape[1:]), np.nan, dtype=np.result_type(values, np.float32))
    result[rows] = values
    return result


def rows_of(values: np.ndarray, mdata: MuData, name: str) -> np.ndarray:
    """Of rows for all cells those of the cells that have the modality, in its order."""
    adata = mdata.mod[name]
    rows = mdata.obs_names.get_indexer(adata.obs_names)
    return values if np.array_equal(rows, np.arange(mdata.n_obs)) else values[rows]


def is_complete(mdata: MuData, names: Sequence[str]) -> bool:
    """Whether every cell has every one of the modalities."""
    return all(mdata.mod[name].n_obs == mdata.n_obs for name in names)


def measured(mdata: MuData, names: Sequence[str]) -> pd.Categorical:
    """What each cell has, as ``"rna+prot"``."""
    has = [np.asarray(mdata.obs_names.isin(mdata.mod[name].obs_names)) for name in names]
    return pd.Categorical(
        ["+".join(name for name, there in zip(names, row, strict=True) if there) for row in zip(*has, strict=True)]
    )
