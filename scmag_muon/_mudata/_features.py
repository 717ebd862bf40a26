"""Features of a modality: chosen columns taken out and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon._mudata._cells import make_mudata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


def expand_features(values: np.ndarray, mask: np.ndarray) -> np.ndarray | sp.csr_matrix:
    """Put the columns of ``values`` where ``mask`` is True among all features; a sparse matrix unless all are used."""
    if mask.all():
        return np.asarray(values, dtype=np.float32)
    n_obs, n_used = values.shape
    columns = np.flatnonzero(mask).astype(np.int32)
    indices = np.broadcast_to(columns, (n_obs, n_used)).ravel()
    indptr = np.arange(0, n_obs * n_used + 1, n_used, dtype=np.int64)
    data = np.ascontiguousarray(values, dtype=np.float32).ravel()
    return sp.csr_matrix((data, indices, indptr), shape=(n_obs, mask.size))


def used_features(layer: np.ndarray | sp.csr_matrix, mask: np.ndarray) -> np.ndarray:
    """Undo :func:`expand_features`: the columns that ``mask`` chooses, dense and contiguous."""
    if mask.all() and isinstance(layer, np.ndarray):
        return np.ascontiguousarray(layer, dtype=np.float32)
    chosen: Any = layer[:, np.flatnonzero(mask)]
    return np.ascontiguousarray(chosen.toarray() if sp.issparse(chosen) else chosen, dtype=np.float32)


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
