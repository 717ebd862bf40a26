"""Small MuDatas to work on, so that the user's stays as it is until all has worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from anndata import AnnData

from scmag_muon import _mudata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData


def working_copy(
    mdata: MuData,
    names: Sequence[str],
    layer: str | Mapping[str, str | None] | None,
    batch_key: str | None,
    *,
    round_counts: bool = False,
) -> MuData:
    """A MuData of the counts alone, so that the user's stays as it is until all has worked.

    Counts that need no change are not copied: nobody may write to them.
    """
    _mudata.check_layer(mdata, layer, names)
    mods = {}
    for name in names:
        adata = mdata.mod[name]
        counts = _mudata.get_counts(
            adata, modality=name, layer=_mudata.layer_of(layer, name), round_counts=round_counts
        )
        mods[name] = AnnData(counts, obs=adata.obs[[]], var=adata.var.copy())
    obs = pd.DataFrame(index=mdata.obs_names)
    if batch_key is not None:
        obs[batch_key] = _mudata.get_batches(mdata, batch_key)
    return _mudata.make_mudata(mods, obs)


def only_used_features(
    work: MuData,
    names: Sequence[str],
    manifold_key: str,
    batch_key: str | None,
    layer: str | Mapping[str, str | None] | None = None,
) -> MuData:
    """What the network reads: counts where the user has them, so that a saved model finds them there, and fitted layers."""
    mods = {}
    for name in names:
        adata = work.mod[name]
        mask = adata.var[manifold_key].to_numpy()
        counts = adata.X if mask.all() else adata.X[:, mask]
        place = _mudata.layer_of(layer, name)
        mods[name] = AnnData(
            counts if place is None else None,
            obs=adata.obs[[]],
            var=adata.var.loc[mask, []],
            layers={
                manifold_key: _mudata.used_features(adata.layers[manifold_key], mask),
                **({} if place is None else {place: counts}),
            },
            uns={manifold_key: adata.uns[manifold_key]},
        )
    return _mudata.make_mudata(mods, work.obs if batch_key is not None else None)
