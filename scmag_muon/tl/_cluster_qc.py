"""Health of each cluster: counts, doublets, batches, how far it is from the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_random_state
from scmag_muon._columns import batches_of_run
from scmag_muon._feature_names import is_mitochondrial
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import differences, made_from
from scmag_muon.tl._doublets import LIKELY, doublet_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

_FEW_CELLS = 20
_LOW_COUNTS = 0.25
_MITOCHONDRIAL = 0.2
_DOUBLETS = 0.5
_ONE_BATCH = 0.95
_NEAR = 3.0
_LOW_STABILITY = 0.5


def cluster_qc(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    batch_key: str | None = None,
    random_state: int | None = 0,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Check the health of each cluster: counts, mitochondrial share, doublets, batches, distance to the next, stability.

    Doublets are sought in RNA by :func:`scanpy.pp.scrublet`, within each batch, and in proteins by pairs that no single cell
    has: of CD3, CD19 or CD20, and CD14, and of CD4 and CD8.

    Parameters
    ----------
    mdata
        Raw counts, and clusters.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of groups; ``None`` takes the clusters.
    batch_key
        Column of batches; ``None`` takes the one that :func:`scmag_muon.tl.scmag` was told, if any.
    random_state
        Seed of the simulated doublets.
    key_added
        Name under which the table is written; ``None`` is ``f"{key}_cluster_qc"``.

    Returns
    -------
    A row per cluster: ``cells``; ``counts_{modality}`` and ``features_{modality}``, medians over its cells; ``mitochondrial``, the
    mean share of counts in mitochondrial genes; ``doublet_score``, the mean over its cells, and ``doublets``, the share of cells
    with a score of .5 or more; ``batch`` and ``batch_share``, the commonest batch and its share; ``nearest_cluster`` and
    ``standard_errors``, the distance of the two means in standard errors, along the line between them, before manifold fitting;
    ``confidence`` and ``stability``, means, where known; ``flags``, what a reader should look at, joined by ``;``. What
    can't be had is missing. Written:

    ``mdata.obs[f"{key}_doublet_score"]``
        How much the cell looks like two, 0 to 1, .5 and more for a likely doublet; missing where neither RNA nor proteins tell.
    ``mdata.uns[key_added]``
        That ``table``, with ``params``.

    Raises
    ------
    KeyError
        Where clusters or a column are not there.
    ValueError
        Where ``key_added`` or the column of scores is something else's.

    Notes
    -----
    Flags: ``few cells`` (below 20), ``low counts`` (median below a quarter of all cells' in a modality), ``mitochondrial`` (mean
    share above .2), ``doublets`` (half of the cells or more), ``one batch`` (95 % or more of the cells, where the commonest batch has
    less than 90 % of all), ``near`` (within 3 standard errors), ``unstable`` (mean Jaccard index below .5 with other seeds).
    No flag is no proof of health: two cells of one type, or of types whose markers were not measured, look like one.
    Scrublet draws pairs of cells by their place: scores of cells in another order differ a little.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> table = smm.tl.cluster_qc(mdata, groupby="cell_type")
    >>> table[["cells", "flags"]].to_dict("list")
    {'cells': [67, 67, 66], 'flags': ['', '', '']}
    """
    random_state = check_random_state(random_state)
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    names = _values.used_modalities(mdata, key)
    batch_key = batch_key or batches_of_run(mdata, key)
    batches = _mudata.get_batches(mdata, batch_key)
    key_added = key_added or Keys.cluster_qc(key)
    check_key(key_added, argument="key_added")
    slot = Keys.doublet_score(key)
    _mudata.check_free_record(mdata, key_added, "cluster_qc", argument="key_added", derived=[slot])
    doublets = doublet_scores(mdata, names, batches, key=key, random_state=random_state)["score"]
    clusters = [str(name) for name in labels.cat.categories]
    groups = labels.astype(object).map(str, na_action="ignore")
    table = pd.DataFrame({"cells": groups.value_counts().reindex(clusters)})
    table = table.join([_of_counts(mdata, name, groups, key) for name in names])
    table["mitochondrial"] = _mitochondrial(mdata, names, groups, key)
    table["doublet_score"] = doublets.groupby(groups).mean()
    table["doublets"] = (doublets >= LIKELY).groupby(groups).mean().where(table["doublet_score"].notna())
    table = table.join(
        [_of_batches(batches, groups), _of_space(mdata, groups, clusters, key), _of_run(mdata, groups, key, column)]
    )
    table["flags"] = _flags(table, names, mdata, batches, key)
    table = table.rename_axis("cluster")
    params = {"key": key, "groupby": column, "batch_key": batch_key, "random_state": random_state}
    layers = {name: _values.counts_layer(mdata, key, name) for name in names}
    sources = made_from(mdata, obs=[column, batch_key], counts=layers)
    mdata.obs[slot] = doublets
    mdata.uns[key_added] = _mudata.make_record(
        "cluster_qc", {"params": params, "table": table}, made_from=sources, key=key
    )
    return table


def _of_counts(mdata: MuData, name: str, groups: pd.Series, key: str) -> pd.DataFrame:
    counts = _values.counts_in_use(mdata, key, name)
    cells = pd.DataFrame(
        {f"counts_{name}": np.asarray(counts.sum(axis=1)).ravel(), f"features_{name}": np.diff(counts.indptr)},
        index=mdata.mod[name].obs_names,
    )
    return cells.groupby(groups.reindex(cells.index)).median()


def _mitochondrial(mdata: MuData, names: Sequence[str], groups: pd.Series, key: str) -> pd.Series | float:
    for name in names:
        adata = mdata.mod[name]
        if _values.kind_in_use(mdata, key, name) == "rna" and is_mitochondrial(adata.var_names).any():
            counts = _values.counts_in_use(mdata, key, name)
            own = np.asarray(counts[:, is_mitochondrial(adata.var_names)].sum(axis=1)).ravel()
            shares = pd.Series(own / np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1), index=adata.obs_names)
            return shares.groupby(groups.reindex(adata.obs_names)).mean()
    return np.nan


def _of_batches(batches: pd.Categorical | None, groups: pd.Series) -> pd.DataFrame:
    if batches is None or len(batches.categories) < 2:
        return pd.DataFrame({"batch": "", "batch_share": np.nan}, index=groups.dropna().unique())
    shares = pd.crosstab(groups.to_numpy(), np.asarray(batches).astype(str), normalize="index")
    return pd.DataFrame({"batch": shares.idxmax(axis=1), "batch_share": shares.max(axis=1)})


def _of_space(mdata: MuData, groups: pd.Series, names: Sequence[str], key: str) -> pd.DataFrame:
    """The nearest other mean, and how far it is beside what chance does to the two means along the line between them."""
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    slots = [Keys.joint_embedding(str(params.get("manifold_key", Keys.MANIFOLD))), Keys.latent(key)]
    space = next((np.asarray(mdata.obsm[slot], dtype=float) for slot in slots if slot in mdata.obsm), None)
    if space is None or len(names) < 2:
        return pd.DataFrame({"nearest_cluster": "", "standard_errors": np.nan}, index=names)
    members = [space[(groups == name).to_numpy()] for name in names]
    means = np.stack([of_cluster.mean(axis=0) for of_cluster in members])
    apart = cdist(means, means)
    np.fill_diagonal(apart, np.inf)
    nearest, distances = apart.argmin(axis=1), []
    for i, j in enumerate(nearest):
        line = (means[j] - means[i]) / max(apart[i, j], 1e-12)
        error = sum((each @ line).var(ddof=min(1, len(each) - 1)) / len(each) for each in (members[i], members[j]))
        distances.append(apart[i, j] / max(float(np.sqrt(error)), 1e-12))
    return pd.DataFrame({"nearest_cluster": [names[j] for j in nearest], "standard_errors": distances}, index=names)


def _of_run(mdata: MuData, groups: pd.Series, key: str, column: str) -> pd.DataFrame:
    found = pd.DataFrame({"confidence": np.nan, "stability": np.nan}, index=groups.dropna().unique())
    if column == key and Keys.confidence(key) in mdata.obs:
        found["confidence"] = mdata.obs[Keys.confidence(key)].groupby(groups).mean()
    record = mdata.uns.get(Keys.stability(key))
    if column == key and record is not None and not differences(mdata, record):
        means = record["table"].mean(axis=1)
        found["stability"] = means.set_axis(means.index.astype(str)).reindex(found.index)
    return found


def _flags(
    table: pd.DataFrame, names: Sequence[str], mdata: MuData, batches: pd.Categorical | None, key: str
) -> list[str]:
    low = pd.Series(data=False, index=table.index)
    for name in names:
        totals = np.asarray(_values.counts_in_use(mdata, key, name).sum(axis=1)).ravel()
        low |= table[f"counts_{name}"] < _LOW_COUNTS * np.median(totals)
    mixed = batches is not None and pd.Series(batches).value_counts(normalize=True).max() < 1 - (1 - _ONE_BATCH) * 2
    checks = {
        "few cells": table["cells"] < _FEW_CELLS,
        "low counts": low,
        "mitochondrial": table["mitochondrial"] > _MITOCHONDRIAL,
        "doublets": table["doublets"] >= _DOUBLETS,
        "one batch": (table["batch_share"] >= _ONE_BATCH) & mixed,
        "near": table["standard_errors"] < _NEAR,
        "unstable": table["stability"] < _LOW_STABILITY,
    }
    return [";".join(flag for flag, fired in checks.items() if fired[cluster]) for cluster in table.index]
