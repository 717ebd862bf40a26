"""Small MuDatas to work on, so that the user's stays as it is until all has worked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmag_muon._mudata._cells import get_batches, make_mudata
from scmag_muon._mudata._complete import fitted_everywhere, padded
from scmag_muon._mudata._counts import check_layer, get_counts, layer_of
from scmag_muon._mudata._features import expand_features, used_features
from scmag_muon._mudata._fit import lend_fit, read_fit
from scmag_muon.manifold.scratch import is_mapped, only_columns, reordered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp
    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit

PRESENT = "present"
_ENTRIES_AT_A_TIME = 2**24


def working_copy(
    mdata: MuData,
    names: Sequence[str],
    layer: str | Mapping[str, str | None] | None,
    batch_key: str | None,
    *,
    round_counts: bool = False,
    features: Mapping[str, np.ndarray | None] | None = None,
) -> MuData:
    """A MuData of the counts alone, in the order of ``mdata.obs_names``, so that the user's stays as it is until all has worked.

    Counts that need no change are not copied: nobody may write to them. Of counts in a file only those of ``features`` are kept.
    """
    check_layer(mdata, layer, names)
    mods = {}
    for name in names:
        adata = mdata.mod[name]
        counts = get_counts(
            adata,
            modality=name,
            layer=layer_of(layer, name),
            round_counts=round_counts,
            features=None if features is None else features[name],
        )
        # rows of a modality that lacks cells may have any order
        order = np.argsort(mdata.obs_names.get_indexer(adata.obs_names))
        if (order[1:] < order[:-1]).any():
            mods[name] = AnnData(reordered(counts, order), obs=adata.obs[[]].iloc[order], var=adata.var.copy())
        else:
            mods[name] = AnnData(counts, obs=adata.obs[[]], var=adata.var.copy())
    obs = pd.DataFrame(index=mdata.obs_names)
    if batch_key is not None:
        obs[batch_key] = get_batches(mdata, batch_key)
    return make_mudata(mods, obs)


def complete_mudata(
    work: MuData,
    names: Sequence[str],
    manifold_key: str,
    layer: str | Mapping[str, str | None] | None = None,
    fit: ManifoldFit | None = None,
    *,
    all_features: bool = False,
) -> MuData:
    """What the network reads, from a working copy with its fit: counts where the user has them, and fitted layers.

    With ``fit``, for cells that lack modalities, every modality has all cells: zeros for counts and imputed fitted rows, and
    ``obsm["present"]`` tells which were measured. The features are those that took part, or all. Where the fitted layers were
    not kept, the stored fit gives their rows, within the rounding of single precision: with ``all_features`` as layers, else
    when the network asks for them.
    """
    mods = {}
    for name in names:
        adata = work.mod[name]
        mask = adata.var[manifold_key].to_numpy()
        counts = used = only_columns(adata.X, mask)
        fitted: Any = None
        if all_features or manifold_key in adata.layers:
            fitted = _fitted(work, name, manifold_key, used)
        if fit is not None and fitted is not None:
            fitted = fitted_everywhere(fitted, fit, name, used)
        if all_features:
            fitted, counts = expand_features(fitted, mask), adata.X
        if fit is not None:
            counts = padded(counts, fit.modality(name).cells, work.n_obs)
        place = layer_of(layer, name)
        mods[name] = AnnData(
            counts if place is None else None,
            obs=work.obs[[]],
            var=adata.var.copy() if all_features else adata.var.loc[mask, [manifold_key]],
            layers={
                **({} if fitted is None else {manifold_key: fitted}),
                **({} if place is None else {place: counts}),
            },
            uns={manifold_key: adata.uns[manifold_key]},
        )
    lean = make_mudata(mods, work.obs)
    lend_fit(work, lean, manifold_key)
    if fit is not None:
        lean.obsm[PRESENT] = fit.present
    return lean


def unshare_counts(work: MuData, mdata: MuData, layer: str | Mapping[str, str | None] | None) -> None:
    """Give ``work`` counts of its own where they may be those of ``mdata``, which users normalise in place."""
    for name, adata in work.mod.items():
        place = layer_of(layer, name)
        counts = adata.X if place is None else adata.layers[place]
        if adata.n_vars < mdata.mod[name].n_vars or is_mapped(counts.data):
            continue
        if place is None:
            adata.X = counts.copy()
        else:
            adata.layers[place] = counts.copy()


def _fitted(work: MuData, name: str, manifold_key: str, counts: sp.csr_array) -> np.ndarray:
    """Fitted rows of a modality's own cells, ``(n_own, n_used)``: its layer, or else by the stored fit from its counts."""
    adata = work.mod[name]
    if manifold_key in adata.layers:
        return used_features(adata.layers[manifold_key], adata.var[manifold_key].to_numpy())
    fit = read_fit(work, manifold_key)
    cells = fit.modality(name).cells
    result = np.empty(counts.shape, dtype=np.float32)
    at_once = max(1, _ENTRIES_AT_A_TIME // max(1, counts.shape[1]))
    for start in range(0, len(cells), at_once):
        result[start : start + at_once] = fit.rows(name, cells[start : start + at_once], counts=counts)
    return result
