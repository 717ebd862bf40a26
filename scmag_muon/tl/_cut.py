"""Clusters at another level of a run's tree, without training."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon import _fingerprint, _mudata, _values
from scmag_muon._checks import check_number
from scmag_muon._keys import Keys, check_key
from scmag_muon._levels import Levels, read_levels, run_of
from scmag_muon._made_from import made_from
from scmag_muon.model._confidence import confidence
from scmag_muon.tl._derived import forget_derived, renew_markers

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

logger = logging.getLogger(__name__)

_OF_RUN = ("modalities", "kinds", "batch_key", "layer", "round_counts", "manifold_key")


def cut(
    mdata: MuData,
    *,
    n_clusters: int | None = None,
    height: float | None = None,
    key: str = Keys.SCMAG,
    key_added: str | None = None,
) -> None:
    """Write the clusters of a run at another level of its tree, without training anew.

    Levels are nested: each cluster at one level lies within one cluster of any coarser level. The level of the run holds the
    clusters of the run. Below it clusters are divided, the most distinct group first, whatever its size; above it they are
    joined.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` left it; cells may have been taken out since.
    n_clusters
        Number of clusters at the level.
    height
        Instead of a number: make all joins up to this height. The height of a join is the largest separation of any join up to it,
        and separation is the distance of the two means in the joint space before fitting, in standard deviations of the cells
        within leaves.
    key
        The ``key_added`` of that run.
    key_added
        Name under which the clusters are written; ``None`` is ``f"{key}_{n_clusters}"``.

    Returns
    -------
    ``None``. Written:

    ``mdata.obs[key_added]``
        Clusters, categorical, ``"0"`` the largest; at the level of the run as the run named them.
    ``mdata.obs[f"{key_added}_confidence"]``
        How likely the cell is in the right cluster of this level, 0 to 1, as :func:`scmag_muon.tl.scmag` tells it of its own.
    ``mdata.uns[key_added]``
        ``params``, ``n_clusters`` and ``height``, so that other verbs take ``key=key_added``.

    What was made from other clusters under the same name is deleted, and its tables of markers are made anew.

    Raises
    ------
    KeyError
        Where there is no run, or it has no tree.
    ValueError
        Where both or none of ``n_clusters`` and ``height`` are given, the tree has no such level, the leaves have changed since the
        run, or the name is taken.

    Notes
    -----
    Leaves are the communities of the joint space in which the clusters of the run fall apart, about forty. A run from k-means
    (``settings="paper"``) has no communities: it can be cut at fewer clusters, not at more.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> smm.tl.cut(mdata, n_clusters=2)
    >>> mdata.obs["scmag_2"].nunique()
    2
    """
    levels = read_levels(mdata, key)
    if (n_clusters is None) == (height is None):
        raise ValueError(f"Give either `n_clusters` or `height`, got n_clusters={n_clusters!r} and height={height!r}.")
    if height is not None:
        n_clusters = levels.tree.n_at(check_number("height", height))
    n_clusters = check_number("n_clusters", n_clusters, integer=True, low=1)
    if n_clusters > levels.tree.n_leaves:
        raise ValueError(no_such_level(levels, n_clusters, key))
    key_added = Keys.level(key, n_clusters) if key_added is None else key_added
    _values.cluster_column(mdata, key)
    check_free(mdata, key_added, "cut")
    write_level(mdata, levels, n_clusters, key=key, key_added=key_added)


def no_such_level(levels: Levels, n_clusters: int, key: str) -> str:
    """Why there is no level with so many clusters, and what gives them."""
    finest = levels.tree.n_leaves
    if finest == levels.tree.n_clusters:
        why = f"The clusters of the run {key!r} are not divided further: there are {finest}."
    else:
        why = f"The finest level of the run {key!r} has {finest} clusters."
    largest = levels.names[int(np.argmax(np.bincount(levels.tree.clusters, weights=levels.tree.sizes)))]
    return (
        f"n_clusters={n_clusters} is not in the tree. {why} Divide a cluster by its own neighbourhoods with "
        f"scmag_muon.tl.subcluster(mdata, {largest!r}, key={key!r}), or train with scmag_muon.tl.scmag(mdata, n_clusters={n_clusters})."
    )


def check_levels(mdata: MuData, n_clusters: Any, key: str, *, paper: bool) -> tuple[int | None, list[int]]:
    """The number of clusters to train with, and those at which to cut the tree afterwards, if several are asked for."""
    if n_clusters is None:
        return None, []
    if isinstance(n_clusters, str) or not isinstance(n_clusters, Iterable):
        _mudata.check_n_clusters(n_clusters, mdata.n_obs)
        return int(n_clusters), []
    given = list(n_clusters)
    if not given:
        raise ValueError("`n_clusters` is empty: name one or more numbers of clusters, for example [6, 8, 10].")
    for each in given:
        _mudata.check_n_clusters(each, mdata.n_obs)
    wanted = sorted({int(each) for each in given})
    for each in wanted:
        check_free(mdata, Keys.level(key, each), "cut")
    return wanted[-1] if paper else wanted[len(wanted) // 2], wanted


def write_levels(mdata: MuData, levels: Levels, wanted: Iterable[int], *, key: str) -> None:
    """Write several levels under their usual names; of those that the tree lacks a warning tells."""
    for n_clusters in wanted:
        if n_clusters > levels.tree.n_leaves:
            logger.warning(no_such_level(levels, n_clusters, key))
        else:
            write_level(mdata, levels, n_clusters, key=key, key_added=Keys.level(key, n_clusters))


def check_free(mdata: MuData, key_added: str, verb: str) -> None:
    """Raise where clusters under this name would overwrite what is not an earlier result of the verb."""
    check_key(key_added, argument="key_added")
    _mudata.check_free_record(
        mdata, key_added, verb, argument="key_added", derived=[key_added, Keys.confidence(key_added)]
    )


def write_level(mdata: MuData, levels: Levels, n_clusters: int, *, key: str, key_added: str) -> None:
    """Write a level that the tree has, under a name that is free."""
    tree = levels.tree
    labels = levels.labels(n_clusters)
    sure = _confidence(mdata, levels, n_clusters, key)
    height = float(tree.heights[tree.n_leaves - n_clusters - 1]) if n_clusters < tree.n_leaves else 0.0
    contents = {"n_clusters": n_clusters, "height": height}
    write_clusters(mdata, labels, sure, contents, verb="cut", key=key, key_added=key_added)
    logger.info("obs[%r]: %d clusters of the run %r, height %.2f.", key_added, n_clusters, key, height)


def write_clusters(
    mdata: MuData,
    labels: pd.Categorical,
    sure: np.ndarray,
    contents: dict[str, Any],
    *,
    verb: str,
    key: str,
    key_added: str,
) -> None:
    """Write clusters that were made from those of a run, and take away what was made from others under the name."""
    params = {name: value for name, value in _mudata.plain(mdata.uns[key]["params"]).items() if name in _OF_RUN}
    tables: dict[str, dict[str, Any]] = {}
    if key_added in mdata.obs and _of(mdata, mdata.obs[key_added]) != _of(mdata, labels):
        tables = forget_derived(mdata, key_added)
    mdata.obs[key_added] = labels
    mdata.obs[Keys.confidence(key_added)] = sure
    record = {"params": {**params, "key": key, "run": run_of(mdata, key)}, **contents}
    sources = made_from(mdata, obs=[key, key_added])
    mdata.uns[key_added] = _mudata.make_record(verb, record, made_from=sources, key=key)
    renew_markers(mdata, tables)


def _confidence(mdata: MuData, levels: Levels, n_clusters: int, key: str) -> np.ndarray:
    slot = Keys.confidence(key)
    if n_clusters == levels.tree.n_clusters and slot in mdata.obs:
        return mdata.obs[slot].to_numpy()
    return confidence_of(mdata, levels.codes(n_clusters), key)


def confidence_of(mdata: MuData, labels: np.ndarray, key: str) -> np.ndarray:
    """Confidence in other clusters of the cells of the run under ``key``; without its clustering space where that was taken out."""
    latent = mdata.obsm.get(Keys.latent(key))
    joint = _values.joint_space(mdata, str(mdata.uns[key]["params"]["manifold_key"]))
    return confidence(joint, None if latent is None else np.asarray(latent), labels)


def _of(mdata: MuData, labels: object) -> str:
    return _fingerprint.of_labels(mdata.obs_names, labels)
