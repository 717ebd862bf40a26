"""Small MuDatas to work on, so that the user's stays as it is until all has worked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd
from anndata import AnnData

from scmag_muon import _mudata
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)


def working_copy(
    mdata: MuData, names: Sequence[str], layer: str | Mapping[str, str | None] | None, batch_key: str | None
) -> MuData:
    """A MuData of the counts alone, so that the user's stays as it is until all has worked; counts are not copied."""
    mods = {}
    for name in names:
        adata = mdata.mod[name]
        counts = _mudata.get_counts(adata, modality=name, layer=_mudata.layer_of(layer, name))
        mods[name] = AnnData(counts, obs=adata.obs[[]], var=adata.var.copy())
    obs = pd.DataFrame(index=mdata.obs_names)
    if batch_key is not None:
        obs[batch_key] = _mudata.get_batches(mdata, batch_key)
    return _mudata.make_mudata(mods, obs)


def only_used_features(work: MuData, names: Sequence[str], manifold_key: str, batch_key: str | None) -> MuData:
    mods = {}
    for name in names:
        adata = work.mod[name]
        mask = adata.var[manifold_key].to_numpy()
        mods[name] = AnnData(
            adata.X if mask.all() else adata.X[:, mask],
            obs=adata.obs[[]],
            var=adata.var.loc[mask, []],
            layers={manifold_key: _mudata.used_features(adata.layers[manifold_key], mask)},
        )
    return _mudata.make_mudata(mods, work.obs if batch_key is not None else None)


def is_fitted(mdata: MuData, names: Sequence[str], key: str) -> bool:
    slots = all(key in mdata.mod[n].layers and key in mdata.mod[n].var and key in mdata.mod[n].uns for n in names)
    return slots and Keys.fitted_embedding(key) in mdata.obsm and Keys.joint_embedding(key) in mdata.obsm


def warn_of_other_fit(mdata: MuData, names: Sequence[str], key: str, batch_key: str | None, settings: str) -> None:
    params = mdata.mod[names[0]].uns[key]["params"]
    wanted = {"batch_key": batch_key, "neighborhoods": "own" if settings == "paper" else "shared"}
    for name, value in wanted.items():
        if params.get(name) != value:
            logger.warning(
                "The layers %r were fitted with %s=%r, not %r. To fit anew, delete mdata[%r].layers[%r] or give another "
                "manifold_key.",
                key,
                name,
                params.get(name),
                value,
                names[0],
                key,
            )
