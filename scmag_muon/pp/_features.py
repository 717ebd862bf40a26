"""Which features of a modality take part."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._assays import ASSAYS
from scmag_muon._mudata import choosing_column, feature_mask

if TYPE_CHECKING:
    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)


def select_features(
    adata: AnnData, counts: sp.csr_array, *, modality: str, kind: ModalityKind, mask_var: str | None
) -> np.ndarray:
    """Boolean mask of the features to use: ``mask_var``, else ``highly_variable``, else chosen where there are too many.

    Features that are zero in every cell are left out in any case.
    """
    detected = np.asarray(counts.sum(axis=0)).ravel() > 0
    column = choosing_column(adata, mask_var)
    if column is not None:
        chosen = feature_mask(adata.var[column], modality)
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
