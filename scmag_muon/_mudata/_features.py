"""Features of a modality: chosen columns taken out and put back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon._mudata._cells import make_mudata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

_ENTRIES_AT_A_TIME = 2**22
_MEANING = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def choosing_column(adata: AnnData, mask_var: str | None) -> str | None:
    """The column of ``var`` that chooses features: ``mask_var``, else ``highly_variable``, else none."""
    column = mask_var if mask_var is not None and mask_var in adata.var else "highly_variable"
    return column if column in adata.var else None


def features_to_read(adata: AnnData, modality: str, mask_var: str | None, manifold_key: str) -> np.ndarray | None:
    """Features that a fit may take, bool, ``(n_vars,)``, or ``None`` where it is to choose them: those of an earlier fit too."""
    column = choosing_column(adata, mask_var)
    if column is None:
        return None
    chosen = feature_mask(adata.var[column], modality)
    fitted = adata.var.get(manifold_key)
    return chosen | fitted.to_numpy() if fitted is not None and fitted.dtype == bool else chosen


def expand_features(values: np.ndarray, mask: np.ndarray) -> np.ndarray | sp.csr_matrix:
    """Put the columns of ``values`` where ``mask`` is True among all features, zeros elsewhere, in the storage that takes less.

    Sparse entries take 8 bytes, 4 of them for their column: scipy holds no narrower columns, and anndata writes no other format
    of sparse matrices. So a matrix of more than half of the features is dense. The values of a sparse one are not copied.
    """
    if mask.all():
        return np.asarray(values, dtype=np.float32)
    n_obs, n_used = values.shape
    if 2 * n_used > mask.size:
        dense = np.zeros((n_obs, mask.size), dtype=np.float32)
        dense[:, mask] = values
        return dense
    columns = np.flatnonzero(mask).astype(np.int32)
    indices = np.broadcast_to(columns, (n_obs, n_used)).ravel()
    indptr = np.arange(0, n_obs * n_used + 1, n_used, dtype=np.int64)
    data = np.ascontiguousarray(values, dtype=np.float32).ravel()
    return sp.csr_matrix((data, indices, indptr), shape=(n_obs, mask.size))


def used_features(layer: np.ndarray | sp.csr_matrix, mask: np.ndarray) -> np.ndarray:
    """Undo :func:`expand_features`: the columns that ``mask`` chooses, dense and contiguous; its memory where that can be used."""
    columns = np.flatnonzero(mask)
    if sp.issparse(layer) and _is_filled(layer, columns):
        return np.ascontiguousarray(np.reshape(layer.data, (-1, len(columns))), dtype=np.float32)
    if mask.all() and isinstance(layer, np.ndarray):
        return np.ascontiguousarray(layer, dtype=np.float32)
    chosen: Any = layer[:, columns]
    return np.ascontiguousarray(chosen.toarray() if sp.issparse(chosen) else chosen, dtype=np.float32)


def _is_filled(layer: Any, columns: np.ndarray) -> bool:
    """Whether each row of a sparse matrix holds an entry in each of these columns, in their order, and no other."""
    n_obs, n_used = layer.shape[0], len(columns)
    if layer.format != "csr" or not len(layer.data) == len(layer.indices) == n_obs * n_used or not n_used:
        return False
    if not np.array_equal(np.diff(layer.indptr), np.full(n_obs, n_used)):
        return False
    rows = layer.indices.reshape(n_obs, n_used)
    at_once = max(1, _ENTRIES_AT_A_TIME // n_used)
    return all((rows[start : start + at_once] == columns).all() for start in range(0, n_obs, at_once))


def with_features(mdata: MuData, features: Mapping[str, np.ndarray]) -> MuData:
    """The MuData itself where its modalities have just these features in this order, else one that has them."""
    if all(np.array_equal(mdata.mod[name].var_names, names) for name, names in features.items()):
        return mdata
    mods = {}
    for name, names in features.items():
        missing = pd.Index(names).difference(mdata.mod[name].var_names)
        if len(missing):
            raise ValueError(
                f"Modality {name!r} lacks {len(missing)} of the model's {len(names)} features, among them {missing[0]!r}."
            )
        mods[name] = mdata.mod[name][:, names].copy()
    return make_mudata(mods, mdata.obs)


def feature_mask(column: pd.Series, modality: str) -> np.ndarray:
    """Booleans, their words and 0 and 1 as what they mean; what is missing is not chosen."""
    where = f"mdata[{modality!r}].var[{str(column.name)!r}]"
    missing = column.isna().to_numpy()
    values = column[~missing]
    words = values.astype(object).map(lambda value: _MEANING.get(str(value).strip().lower()))
    if words.isna().any():
        odd = values[words.isna().to_numpy()]
        test = "> 0" if pd.api.types.is_numeric_dtype(values) else f"== {odd.iloc[0]!r}"
        raise ValueError(
            f"{where} must be boolean to choose features, it is {column.dtype}: feature {str(odd.index[0])!r} has "
            f"{odd.iloc[0]!r}. Turn it into one, for example {where} = {where} {test}, or delete it: del {where}."
        )
    if missing.any():
        logger.info("%s is missing for %d features, which are not chosen.", where, missing.sum())
    mask = np.zeros(len(column), dtype=bool)
    mask[~missing] = words.to_numpy(dtype=bool)
    return mask
