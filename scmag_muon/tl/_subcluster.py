"""One cluster divided further, by its own neighbourhoods."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_number, check_random_state
from scmag_muon._keys import Keys
from scmag_muon.model._clustering import join_communities
from scmag_muon.tl._cut import check_free, confidence_of, write_clusters
from scmag_muon.tl._graph_clusters import fine_communities, n_neighbors_for, order_by_size, typical_communities
from scmag_muon.tl._levels import space_of_leaves

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

_FEWEST_CELLS = 20


def subcluster(
    mdata: MuData,
    cluster: str,
    *,
    n_clusters: int | None = None,
    key: str = Keys.SCMAG,
    key_added: str | None = None,
    random_state: int | None = 0,
) -> None:
    """Divide one cluster further, by neighbourhoods among its own cells, without training.

    Neighbours and communities are found among the cells of the cluster alone, in the joint space before fitting. Communities are
    joined by the distances of their means there, in units of the spread within them, as in the tree of a run.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` left it.
    cluster
        Name of the cluster.
    n_clusters
        Number of parts. ``None`` takes the Leiden communities, at that resolution from 0.5 to 1 whose communities agree best with
        those at the others; this may be one part only.
    key
        The clusters: the ``key_added`` of :func:`scmag_muon.tl.scmag`, :func:`scmag_muon.tl.cut` or an earlier ``subcluster``.
    key_added
        Name under which the clusters are written; ``None`` is ``f"{key}_sub"``.
    random_state
        Seed of Leiden.

    Returns
    -------
    ``None``. Written:

    ``mdata.obs[key_added]``
        Clusters, categorical: the parts of cluster ``"3"`` are ``"3,0"``, the largest, ``"3,1"`` and so on, the others keep their
        names.
    ``mdata.obs[f"{key_added}_confidence"]``
        How likely the cell is in the right cluster, 0 to 1, as :func:`scmag_muon.tl.scmag` tells it of its own.
    ``mdata.uns[key_added]``
        ``params``, ``cluster`` and ``n_parts``, so that other verbs take ``key=key_added``.

    What was made from other clusters under the same name is deleted, and its tables of markers are made anew.

    Raises
    ------
    KeyError
        Where there are no clusters under ``key`` or no joint space.
    ValueError
        Where no cluster has the name, it has fewer than twenty cells or fewer communities than ``n_clusters``, or the name to
        write under is taken.

    Notes
    -----
    Leiden goes through the cells in their order: cells in another order may fall into other communities.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> smm.tl.subcluster(mdata, "0", n_clusters=2)
    >>> mdata.obs["scmag_sub"].nunique()
    4
    """
    labels = _values.cluster_column(mdata, key)
    record = mdata.uns.get(key)
    if not any(_mudata.is_record(record, verb) for verb in ("scmag", "cut", "subcluster")):
        raise KeyError(
            f"mdata.obs[{key!r}] is not of a run: there is no record of one in mdata.uns[{key!r}]. Make the run with "
            f"scmag_muon.tl.scmag(mdata, key_added={key!r})."
        )
    key_added = f"{key}_sub" if key_added is None else key_added
    check_free(mdata, key_added, "subcluster")
    random_state = check_random_state(random_state)
    cluster = str(cluster)
    inside = (labels.astype(str) == cluster).to_numpy()
    _check_cluster(labels, cluster, int(inside.sum()), key)
    n_clusters = check_number("n_clusters", n_clusters, integer=True, low=2, high=int(inside.sum()), optional=True)
    names = [name for name in map(str, record["params"]["modalities"]) if name in mdata.mod]
    slot = space_of_leaves(str(record["params"]["manifold_key"]), complete=_mudata.is_complete(mdata, names))
    parts = _parts(np.asarray(mdata.obsm[slot])[inside], n_clusters, random_state)
    n_parts = int(parts.max()) + 1
    if n_parts == 1:
        logger.info("The cluster %r of %r is not divided: its cells are one community.", cluster, key)
    divided = labels.astype(object).to_numpy(copy=True)
    if n_parts > 1:
        divided[inside] = [f"{cluster},{part}" for part in parts]
    named = [str(name) for name in labels.cat.categories]
    place = named.index(cluster)
    named[place : place + 1] = [f"{cluster},{part}" for part in range(n_parts)] if n_parts > 1 else [cluster]
    written = pd.Categorical([str(name) for name in divided], categories=named)
    contents = {"cluster": cluster, "n_parts": n_parts}
    write_clusters(
        mdata,
        written,
        confidence_of(mdata, written.codes, key),
        contents,
        verb="subcluster",
        key=key,
        key_added=key_added,
    )
    logger.info("obs[%r]: the cluster %r of %r is divided in %d.", key_added, cluster, key, n_parts)


def _check_cluster(labels: pd.Series, cluster: str, n_cells: int, key: str) -> None:
    if labels.isna().any():
        raise ValueError(f"{int(labels.isna().sum())} cells have no cluster in {key!r}.")
    if not n_cells:
        raise ValueError(f"No cluster {cluster!r} in {key!r}, which has {list(map(str, labels.cat.categories))}.")
    if n_cells < _FEWEST_CELLS:
        raise ValueError(f"The cluster {cluster!r} has {n_cells} cells; {_FEWEST_CELLS} or more can be divided.")


def _parts(space: np.ndarray, n_clusters: int | None, random_state: int) -> np.ndarray:
    """Integers from 0, the largest part first, shape ``(n_cells,)``."""
    if n_clusters is None:
        return typical_communities(space, random_state=random_state)
    communities = fine_communities(
        space, n_clusters, n_neighbors=n_neighbors_for(len(space)), random_state=random_state
    )
    z = torch.from_numpy(np.ascontiguousarray(space, dtype=np.float64))
    return order_by_size(join_communities(z, torch.from_numpy(communities), n_clusters).numpy())
