"""What a report needs and the user has not computed yet, on a copy that shares the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData

from scmag_muon import _mudata, _values, tl
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from mudata import MuData


def prepared(mdata: MuData, *, key: str, batch_key: str | None, random_state: int | None) -> tuple[MuData, list[str]]:
    """A MuData with everything the report draws, and the names of what had to be computed for it; ``mdata`` is untouched."""
    work = _shared(mdata)
    made = []
    if "X_umap" not in work.obsm:
        space = np.asarray(work.obsm[Keys.latent(key)])
        scratch = AnnData(obs=pd.DataFrame(index=work.obs_names), obsm={"X": space})
        sc.pp.neighbors(scratch, use_rep="X", transformer="sklearn", random_state=random_state or 0)
        sc.tl.umap(scratch, random_state=random_state or 0)
        work.obsm["X_umap"] = scratch.obsm["X_umap"]
        made.append("UMAP of the clustering space")
    n_clusters = len(_values.cluster_column(work, key).cat.categories)
    if Keys.markers(key) not in work.uns and n_clusters > 1:
        tl.markers(work, key=key)
        made.append("markers")
    if f"dendrogram_{key}" not in work.uns and n_clusters > 1:
        scratch = AnnData(obs=work.obs[[key]].copy(), obsm={Keys.latent(key): np.asarray(work.obsm[Keys.latent(key)])})
        sc.tl.dendrogram(scratch, groupby=key, use_rep=Keys.latent(key))
        work.uns[f"dendrogram_{key}"] = scratch.uns[f"dendrogram_{key}"]
        made.append("dendrogram")
    batches = _mudata.get_batches(work, batch_key)
    if batches is not None and len(batches.categories) > 1 and Keys.batch_mixing(key) not in work.uns:
        tl.batch_mixing(work, batch_key=batch_key, key=key, random_state=random_state)
        made.append("mixing of the batches")
    return work, made


def _shared(mdata: MuData) -> MuData:
    mods = {}
    for name, adata in mdata.mod.items():
        layers = {slot: adata.layers[slot] for slot in adata.layers if slot is not None}
        mods[name] = AnnData(adata.X, obs=adata.obs.copy(), var=adata.var.copy(), layers=layers, uns=dict(adata.uns))
    work = _mudata.make_mudata(mods, mdata.obs)
    for slot in mdata.obsm:
        if slot not in mdata.mod:  # mudata keeps a mask of each modality's cells there
            work.obsm[slot] = mdata.obsm[slot]
    for slot in mdata.uns:
        work.uns[slot] = mdata.uns[slot]
    return work
