"""How clusters connect, and how far along a path each cell is."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata, _values
from scmag_muon._keys import Keys
from scmag_muon._made_from import made_from

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)


def trajectory(
    mdata: MuData,
    *,
    root: str,
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    neighbors_key: str | None = None,
    n_dcs: int = 10,
) -> None:
    """PAGA graph of the clusters and diffusion pseudotime from a root, on the scMAG neighbour graph (paper, 4.5).

    Runs :func:`scanpy.tl.paga`, :func:`scanpy.tl.diffmap` and :func:`scanpy.tl.dpt`. The one thing it adds is the root: the
    cell in the middle of a cluster, in the clustering space.

    Parameters
    ----------
    mdata
        Clusters, and the neighbour graph of ``scanpy.pp.neighbors(mdata, use_rep="X_scmag")``.
    root
        Cluster in which the path starts, or name of the cell. Which one it is, is for you to know: the data don't tell.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of groups; ``None`` takes the clusters.
    neighbors_key
        The ``key_added`` of :func:`scanpy.pp.neighbors`.
    n_dcs
        Diffusion components to use; fewer where there are few cells.

    Returns
    -------
    ``None``. Written:

    ``mdata.obs[f"{key}_pseudotime"]``
        0 at the root, 1 at the farthest cell (unitless); missing for cells that no path of the graph leads to.
    ``mdata.uns[f"{key}_trajectory"]``
        ``connectivities``, a data frame of PAGA's connectivities, 0 to 1, groups by groups; ``root_cell``; ``params``.

    Raises
    ------
    KeyError
        Where clusters or neighbours are not there.
    ValueError
        Where ``root`` is neither a cluster nor a cell.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> sc.pp.neighbors(mdata, use_rep="X_scmag", transformer="sklearn")
    >>> smm.tl.trajectory(mdata, root="0")
    >>> mdata.uns["scmag_trajectory"]["connectivities"].shape
    (3, 3)
    """
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    if labels.isna().any():
        raise ValueError(f"{int(labels.isna().sum())} cells have no group in {column!r}.")
    slot = neighbors_key or "neighbors"
    if slot not in mdata.uns:
        raise KeyError(
            f"No neighbours in mdata.uns[{slot!r}]. Make them with "
            f"scanpy.pp.neighbors(mdata, use_rep={Keys.latent(key)!r}, key_added={neighbors_key!r})."
        )
    record = mdata.uns[slot]
    used = record.get("params", {}).get("use_rep")
    if used != Keys.latent(key):
        logger.warning("The neighbours in mdata.uns[%r] are those of %s, not of %s.", slot, used, Keys.latent(key))
    root_cell = _root(mdata, root, labels, key)
    scratch = AnnData(
        obs=pd.DataFrame({"group": labels.astype(str).astype("category")}, index=mdata.obs_names),
        obsp={name: mdata.obsp[record[f"{name}_key"]] for name in ("connectivities", "distances")},
        uns={
            "neighbors": {
                "connectivities_key": "connectivities",
                "distances_key": "distances",
                "params": dict(record["params"]),
            }
        },
    )
    scratch.uns["iroot"] = int(np.flatnonzero(mdata.obs_names == root_cell)[0])
    n_components = min(max(n_dcs + 1, 3), mdata.n_obs - 1)
    sc.tl.paga(scratch, groups="group")
    sc.tl.diffmap(scratch, n_comps=n_components)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scanpy warns of infinite distances where the graph is in parts; those cells are marked as missing below
        warnings.simplefilter("ignore", RuntimeWarning)
        sc.tl.dpt(scratch, n_dcs=min(n_dcs, n_components))
    pseudotime = scratch.obs["dpt_pseudotime"].to_numpy(dtype=float)
    apart = ~_reached(scratch.obsp["connectivities"], scratch.uns["iroot"])
    pseudotime[apart | ~np.isfinite(pseudotime)] = np.nan
    highest = np.nanmax(pseudotime)
    if apart.any():
        logger.warning("%d cells are not connected with the root and get no pseudotime.", int(apart.sum()))
    mdata.obs[Keys.pseudotime(key)] = pseudotime / highest if highest > 0 else pseudotime
    groups = list(scratch.obs["group"].cat.categories)
    connectivities = pd.DataFrame(scratch.uns["paga"]["connectivities"].toarray(), index=groups, columns=groups)
    params = {"groupby": column, "root": root, "neighbors_key": neighbors_key, "n_dcs": n_dcs}
    contents = {"params": params, "root_cell": str(root_cell), "connectivities": connectivities}
    sources = made_from(mdata, obs=[column], obsm=[used] if used in mdata.obsm else [])
    mdata.uns[Keys.trajectory(key)] = _mudata.make_record("trajectory", contents, made_from=sources, key=key)


def _root(mdata: MuData, root: str, labels: pd.Series, key: str) -> str:
    if root in mdata.obs_names:
        return root
    if root not in set(labels.astype(str)):
        raise ValueError(
            f"root={root!r} is neither a cell nor one of the groups {list(map(str, labels.cat.categories))}."
        )
    slot = Keys.latent(key)
    if slot not in mdata.obsm:
        raise KeyError(
            f"No clustering space mdata.obsm[{slot!r}]. Make it with scmag_muon.tl.scmag(mdata, key_added={key!r})."
        )
    inside = (labels.astype(str) == root).to_numpy()
    latent = np.asarray(mdata.obsm[slot])[inside]
    middle = np.argmin(((latent - latent.mean(axis=0)) ** 2).sum(axis=1))
    return str(mdata.obs_names[inside][middle])


def _reached(connectivities: sp.spmatrix, root: int) -> np.ndarray:
    _, parts = sp.csgraph.connected_components(connectivities, directed=False)
    return parts == parts[root]
