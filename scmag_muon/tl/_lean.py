"""Small MuDatas to work on, so that the user's stays as it is until all has worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit

PRESENT = "present"


def working_copy(
    mdata: MuData,
    names: Sequence[str],
    layer: str | Mapping[str, str | None] | None,
    batch_key: str | None,
    *,
    round_counts: bool = False,
) -> MuData:
    """A MuData of the counts alone, in the order of ``mdata.obs_names``, so that the user's stays as it is until all has worked.

    Counts that need no change are not copied: nobody may write to them.
    """
    _mudata.check_layer(mdata, layer, names)
    mods = {}
    for name in names:
        adata = mdata.mod[name]
        counts = _mudata.get_counts(
            adata, modality=name, layer=_mudata.layer_of(layer, name), round_counts=round_counts
        )
        # rows of a modality that lacks cells may have any order
        order = np.argsort(mdata.obs_names.get_indexer(adata.obs_names))
        if (order[1:] < order[:-1]).any():
            mods[name] = AnnData(counts[order], obs=adata.obs[[]].iloc[order], var=adata.var.copy())
        else:
            mods[name] = AnnData(counts, obs=adata.obs[[]], var=adata.var.copy())
    obs = pd.DataFrame(index=mdata.obs_names)
    if batch_key is not None:
        obs[batch_key] = _mudata.get_batches(mdata, batch_key)
    work = _mudata.make_mudata(mods, obs)
    # mudata orders the union of several modalities' cells by itself
    return work if work.obs_names.equals(mdata.obs_names) else _mudata.copy_of(work[mdata.obs_names])


def network_input(
    work: MuData,
    names: Sequence[str],
    manifold_key: str,
    batch_key: str | None,
    layer: str | Mapping[str, str | None] | None = None,
    fit: ManifoldFit | None = None,
) -> MuData:
    """What the network reads: counts where the user has them, so that a saved model finds them there, and fitted layers.

    With ``fit``, for cells that lack modalities, every modality has all cells: zeros for counts and imputed fitted rows, and
    ``obsm["present"]`` tells which were measured.
    """
    mods = {}
    for name in names:
        adata = work.mod[name]
        mask = adata.var[manifold_key].to_numpy()
        counts = adata.X if mask.all() else adata.X[:, mask]
        fitted = _mudata.used_features(adata.layers[manifold_key], mask)
        if fit is not None:
            fitted = _mudata.fitted_everywhere(fitted, fit, name, counts)
            counts = _mudata.padded(counts, fit.modality(name).cells, work.n_obs)
        place = _mudata.layer_of(layer, name)
        mods[name] = AnnData(
            counts if place is None else None,
            obs=work.obs[[]],
            var=adata.var.loc[mask, [manifold_key]],
            layers={manifold_key: fitted, **({} if place is None else {place: counts})},
            uns={manifold_key: adata.uns[manifold_key]},
        )
    lean = _mudata.make_mudata(mods, work.obs if batch_key is not None else None)
    _mudata.lend_fit(work, lean, manifold_key)
    if fit is not None:
        lean.obsm[PRESENT] = fit.present
    return lean


def expression(work: MuData, manifold_key: str, fit: ManifoldFit | None, random_state: int) -> dict[str, sp.csr_array]:
    """Counts of the fitted features of all cells, where a modality was not measured those of a neighbour."""
    counts = {name: sp.csr_array(adata.X[:, adata.var[manifold_key].to_numpy()]) for name, adata in work.mod.items()}
    if fit is None:
        return counts
    return {name: _mudata.borrowed(x, fit, name, random_state=random_state) for name, x in counts.items()}


def rows_of(values: np.ndarray, mdata: MuData, name: str) -> np.ndarray:
    """Of rows for all cells those of the cells that have the modality, in its order."""
    adata = mdata.mod[name]
    return values if adata.n_obs == mdata.n_obs else values[mdata.obs_names.get_indexer(adata.obs_names)]
