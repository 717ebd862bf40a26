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
from scmag_muon._checks import check_number
from scmag_muon._keys import Keys
from scmag_muon._made_from import made_from, neighbors_are_of

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

_FEWEST_CELLS = 4


def trajectory(
    mdata: MuData,
    *,
    root: str | None = None,
    root_cell: str | None = None,
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
        Cluster in which the path starts: at the cell in its middle. Where no cluster has the name, the cell of that name. Which one it
        is, is for you to know: the data don't tell.
    root_cell
        Name of the cell at which it starts, in place of ``root``.
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
        Where ``root`` is neither a cluster nor a cell, both or none of ``root`` and ``root_cell`` are given, there are fewer than
        four cells, or the neighbours are of other cells than the clustering space.

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
    derived = [Keys.pseudotime(key)]
    _mudata.check_free_record(mdata, Keys.trajectory(key), "trajectory", argument="key", derived=derived)
    n_dcs = check_number("n_dcs", n_dcs, integer=True, low=1)
    if mdata.n_obs < _FEWEST_CELLS:
        raise ValueError(f"A trajectory needs {_FEWEST_CELLS} cells or more, there are {mdata.n_obs}.")
    slot = neighbors_key or "neighbors"
    if slot not in mdata.uns:
        raise KeyError(
            f"No neighbours in mdata.uns[{slot!r}]. Make them with "
            f"scanpy.pp.neighbors(mdata, use_rep={Keys.latent(key)!r}, key_added={neighbors_key!r})."
        )
    record = mdata.uns[slot]
    used = record.get("params", {}).get("use_rep")
    _check_neighbors(mdata, slot, Keys.latent(key))
    root_cell = _root(mdata, root, root_cell, labels, key)
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
    groups = list(scratch.obs["group"].cat.categories)
    strengths = np.zeros((1, 1))
    if len(groups) > 1:
        sc.tl.paga(scratch, groups="group")
        strengths = scratch.uns["paga"]["connectivities"].toarray()
    with warnings.catch_warnings(), np.errstate(all="ignore"), np.printoptions():  # scanpy sets digits of its own
        sc.tl.diffmap(scratch, n_comps=n_components)
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
    connectivities = pd.DataFrame(strengths, index=groups, columns=_mudata.column_names(groups))
    params = {
        "groupby": column,
        "root": root if root is not None else root_cell,
        "neighbors_key": neighbors_key,
        "n_dcs": n_dcs,
    }
    contents = {"params": params, "root_cell": str(root_cell), "connectivities": connectivities}
    sources = made_from(mdata, obs=[column], obsm=[used] if used in mdata.obsm else [])
    mdata.uns[Keys.trajectory(key)] = _mudata.make_record("trajectory", contents, made_from=sources, key=key)


def _check_neighbors(mdata: MuData, slot: str, latent: str) -> None:
    """Warn of neighbours in another space, raise where the space has changed since."""
    record = mdata.uns[slot]
    params = record.get("params", {})
    used = params.get("use_rep")
    if used != latent:
        logger.warning("The neighbours in mdata.uns[%r] are those of %s, not of %s.", slot, used, latent)
        return
    euclidean = latent in mdata.obsm and str(params.get("metric", "euclidean")) == "euclidean"
    if euclidean and not neighbors_are_of(mdata.obsp[record["distances_key"]], mdata.obsm[latent]):
        raise ValueError(
            f"The neighbours in mdata.uns[{slot!r}] were made in another mdata.obsm[{latent!r}] than the one there is. Make "
            f"them anew with scanpy.pp.neighbors(mdata, use_rep={latent!r}, key_added={slot!r})."
        )


def _root(mdata: MuData, root: str | None, root_cell: str | None, labels: pd.Series, key: str) -> str:
    if (root is None) == (root_cell is None):
        raise ValueError("Give either `root`, a cluster, or `root_cell`, the name of a cell.")
    if root_cell is not None:
        if root_cell not in mdata.obs_names:
            raise ValueError(f"root_cell={root_cell!r} is no cell, as {mdata.obs_names[0]!r} is one.")
        return root_cell
    root = str(root)
    if root not in set(labels.astype(str)):
        if root in mdata.obs_names:
            logger.info("The path starts at the cell %r: no cluster has that name.", root)
            return root
        raise ValueError(
            f"root={root!r} is neither a cell nor one of the groups {list(map(str, labels.cat.categories))}."
        )
    inside = (labels.astype(str) == root).to_numpy()
    latent = _values.clustering_space(mdata, key)[inside]
    middle = np.argmin(((latent - latent.mean(axis=0)) ** 2).sum(axis=1))
    found = str(mdata.obs_names[inside][middle])
    logger.info("The path starts at the cell %r, in the middle of the cluster %r.", found, root)
    return found


def _reached(connectivities: sp.spmatrix, root: int) -> np.ndarray:
    _, parts = sp.csgraph.connected_components(connectivities, directed=False)
    return parts == parts[root]
