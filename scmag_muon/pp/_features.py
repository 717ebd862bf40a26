"""Which features of a modality take part."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._assays import ASSAYS

if TYPE_CHECKING:
    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)

_MEANING = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def select_features(
    adata: AnnData, counts: sp.csr_array, *, modality: str, kind: ModalityKind, mask_var: str | None
) -> np.ndarray:
    """Boolean mask of the features to use: ``mask_var``, else ``highly_variable``, else chosen where there are too many.

    Features that are zero in every cell are left out in any case.
    """
    detected = np.asarray((counts > 0).sum(axis=0)).ravel() > 0
    column = mask_var if mask_var is not None and mask_var in adata.var else "highly_variable"
    if column in adata.var:
        chosen = _as_mask(adata.var[column], modality)
        mask = chosen & detected
        if not mask.any():
            raise ValueError(f"mdata[{modality!r}].var[{column!r}] chooses no feature that is detected in any cell.")
        return mask
    most = ASSAYS[kind].max_features
    if detected.sum() <= most:
        return detected
    scratch = AnnData(sp.csr_matrix(counts[:, detected]))
    sc.pp.normalize_total(scratch)
    sc.pp.log1p(scratch)
    sc.pp.highly_variable_genes(scratch, n_top_genes=most)
    mask = np.zeros(len(detected), dtype=bool)
    mask[np.flatnonzero(detected)[scratch.var["highly_variable"].to_numpy()]] = True
    return mask


def _as_mask(column: pd.Series, modality: str) -> np.ndarray:
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
