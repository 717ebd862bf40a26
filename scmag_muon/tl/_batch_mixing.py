"""How much of the batches is left: before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata, _values
from scmag_muon import metrics as scmag_metrics
from scmag_muon._checks import check_number, check_random_state
from scmag_muon._keys import Keys
from scmag_muon._made_from import made_from

if TYPE_CHECKING:
    from mudata import MuData


_FEWEST_FOR_UMAP = 5


def batch_mixing(
    mdata: MuData,
    *,
    batch_key: str | None = None,
    key: str = Keys.SCMAG,
    n_pcs: int = 30,
    n_neighbors: int = 30,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Mixing of the batches before and after scMAG, with a UMAP of each (paper, 4.1).

    "Before" are the principal components of all modalities' normalised counts, each modality at unit variance, without any
    account of the batches. Cells that lack a modality lie at its mean.

    Parameters
    ----------
    mdata
        Raw counts and what :func:`scmag_muon.tl.scmag` wrote.
    batch_key
        Column of batches; ``None`` takes the one that :func:`scmag_muon.tl.scmag` was told.
    key
        The ``key_added`` of that call.
    n_pcs
        Principal components of each modality.
    n_neighbors
        Neighbours of each cell among which mixing is counted.
    random_state
        Seed of the components and of both UMAPs.

    Returns
    -------
    Rows ``"before"`` and ``"after"``, columns ``mixing`` and ``ilisi`` of :func:`scmag_muon.metrics.batch_mixing`. Written:

    ``mdata.uns[f"{key}_batch_mixing"]``
        The ``table``, with ``params``.
    ``mdata.obsm[f"X_{key}_batch_mixing_before"]``, ``mdata.obsm[f"X_{key}_batch_mixing_after"]``
        UMAPs, ``(n_obs, 2)``.

    Raises
    ------
    KeyError
        Where the clustering space or the batches are not there.
    ValueError
        Where there is one batch only.

    Notes
    -----
    Full mixing is not the aim where batches differ in their cells: then only cells of types that both have should mix.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3, n_batches=2)
    >>> smm.tl.scmag(mdata, n_clusters=3, batch_key="batch", max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.batch_mixing(mdata)
    >>> list(table.index), list(table.columns)
    (['before', 'after'], ['mixing', 'ilisi'])
    """
    n_pcs = check_number("n_pcs", n_pcs, integer=True, low=1)
    n_neighbors = check_number("n_neighbors", n_neighbors, integer=True, low=1)
    random_state = check_random_state(random_state)
    latent = _values.clustering_space(mdata, key)
    params = mdata.uns[key]["params"] if key in mdata.uns else {}
    batch_key = batch_key or params.get("batch_key")
    batches = _mudata.get_batches(mdata, batch_key)
    if batches is None:
        raise KeyError(f"mdata.uns[{key!r}] tells of no batches. Name their column with batch_key=.")
    names = _values.used_modalities(mdata, key)
    own = [f"X_{Keys.batch_mixing(key)}_{state}" for state in ("before", "after")]
    _mudata.check_free_record(mdata, Keys.batch_mixing(key), "batch_mixing", argument="key", derived=own)
    spaces = {
        "before": np.hstack([_components(mdata, name, key, n_pcs, random_state) for name in names]),
        "after": latent,
    }
    table = pd.DataFrame(
        {state: scmag_metrics.batch_mixing(space, batches, n_neighbors=n_neighbors) for state, space in spaces.items()}
    ).T
    maps = {state: umap_of(space, random_state) for state, space in spaces.items()}
    for state, coordinates in maps.items():
        mdata.obsm[f"X_{Keys.batch_mixing(key)}_{state}"] = coordinates
    used: dict[str, Any] = {
        "batch_key": batch_key,
        "n_pcs": n_pcs,
        "n_neighbors": n_neighbors,
        "random_state": random_state,
    }
    layers = {name: _values.counts_layer(mdata, key, name) for name in names}
    sources = made_from(mdata, obs=[batch_key], obsm=[Keys.latent(key)], counts=layers)
    mdata.uns[Keys.batch_mixing(key)] = _mudata.make_record(
        "batch_mixing", {"params": used, "table": table}, made_from=sources, key=key
    )
    return table


def umap_of(space: np.ndarray, random_state: int | None) -> np.ndarray:
    """UMAP of a space, shape ``(n_obs, 2)``; of fewer cells than it can take, their first two coordinates."""
    if len(space) <= _FEWEST_FOR_UMAP:
        return np.pad(np.asarray(space, dtype=np.float32), ((0, 0), (0, max(0, 2 - space.shape[1]))))[:, :2]
    scratch = AnnData(obs=pd.DataFrame(index=np.arange(len(space)).astype(str)), obsm={"X": np.asarray(space)})
    sc.pp.neighbors(scratch, use_rep="X", transformer="sklearn", random_state=random_state or 0)
    sc.tl.umap(scratch, random_state=random_state or 0)
    return np.asarray(scratch.obsm["X_umap"])


def _components(mdata: MuData, name: str, key: str, n_pcs: int, random_state: int | None) -> np.ndarray:
    values = _values.normalized_counts(mdata, name, layer=_values.counts_layer(mdata, key, name), key=key)
    params = mdata.uns[key]["params"] if key in mdata.uns else {}
    mask = mdata.mod[name].var.get(str(params.get("manifold_key", Keys.MANIFOLD)))
    if mask is not None:
        values = values[:, np.flatnonzero(mask.to_numpy())]
    n_pcs = min(n_pcs, values.shape[1] - 1, values.shape[0] - 1)
    if n_pcs < 1:  # one feature is its own component
        dense = sp.csr_array(values).toarray().astype(np.float32)
        components = dense - dense.mean(axis=0)
    else:
        dense_or_csr = sp.csr_matrix(values) if sp.issparse(values) else values
        components = sc.pp.pca(dense_or_csr, n_comps=n_pcs, random_state=random_state or 0)
    scaled = components / max(np.sqrt(components.var(axis=0).sum()), 1e-12)
    return np.nan_to_num(_mudata.in_all_cells(scaled, mdata, name))
