"""Counts and values with a row for every cell, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from scmag_muon import _mudata

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit


def expression(work: MuData, manifold_key: str, fit: ManifoldFit | None, random_state: int) -> dict[str, sp.csr_array]:
    """Counts of the fitted features of all cells, where a modality was not measured those of a neighbour."""
    counts = {name: sp.csr_array(adata.X[:, adata.var[manifold_key].to_numpy()]) for name, adata in work.mod.items()}
    if fit is None:
        return counts
    return {name: _mudata.borrowed(x, fit, name, random_state=random_state) for name, x in counts.items()}


def rows_of(values: np.ndarray, mdata: MuData, name: str) -> np.ndarray:
    """Of rows for all cells those of the cells that have the modality, in its order."""
    adata = mdata.mod[name]
    rows = mdata.obs_names.get_indexer(adata.obs_names)
    return values if np.array_equal(rows, np.arange(mdata.n_obs)) else values[rows]
