"""Counts and features of a modality: validated, chosen, put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon._mudata._cells import make_mudata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from mudata import MuData


def layer_of(layer: str | Mapping[str, str | None] | None, modality: str) -> str | None:
    """The layer asked for one modality, where ``layer`` may be one name for all or a mapping."""
    if layer is None or isinstance(layer, str):
        return layer
    return layer.get(modality)


def get_counts(adata: AnnData, *, modality: str, layer: str | None = None) -> sp.csr_array:
    """Validated raw counts of a modality, shape ``(n_obs, n_vars)``, CSR float32; never the user's own buffer changed."""
    if layer is not None and layer not in adata.layers:
        raise KeyError(
            f"No layer {layer!r} in modality {modality!r}, which has {sorted(map(str, adata.layers.keys()))}."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    where = f"mdata[{modality!r}]" + (".X" if layer is None else f".layers[{layer!r}]")
    if matrix is None:
        raise ValueError(f"{where} is missing; raw counts are needed there, or name their layer with layer=.")
    if hasattr(matrix, "to_memory"):
        matrix = matrix.to_memory()
    counts = sp.csr_array(matrix) if not sp.issparse(matrix) else sp.csr_array(matrix.tocsr())
    values = counts.data
    if not np.isfinite(values).all():
        raise ValueError(f"{where} holds NaN or infinite values; raw counts are needed.")
    if values.size and values.min() < 0:
        raise ValueError(f"{where} holds negative values; raw counts are needed. Name their layer with layer=.")
    if not np.array_equal(values, np.rint(values)):
        raise ValueError(
            f"{where} holds values that are not integers, so it seems to be normalised already; "
            "raw counts are needed. Name their layer with layer=."
        )
    if not values.any():
        raise ValueError(f"{where} holds no counts at all: every value is zero.")
    return counts.astype(np.float32, copy=False)


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
