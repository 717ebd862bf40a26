"""Features that tell clusters apart, in each modality."""

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
from scmag_muon._feature_names import is_isotype_control
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import made_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)

_NAMES = {
    "group": "cluster",
    "names": "feature",
    "scores": "score",
    "logfoldchanges": "log2_fold_change",
    "pvals": "p",
    "pvals_adj": "p_adjusted",
    "pct_nz_group": "share",
    "pct_nz_reference": "share_others",
}
_COLUMNS = [
    "modality",
    "cluster",
    "feature",
    "score",
    "log2_fold_change",
    "auroc",
    "p",
    "p_adjusted",
    "share",
    "share_others",
    "next_cluster",
    "log2_fold_change_next",
    "over_controls",
    "is_marker",
]
_TINY = 1e-9  # scanpy's, in fold changes


def markers(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    reference: str = "rest",
    modalities: Sequence[str] | None = None,
    layer: str | Mapping[str, str | None] | None = None,
    min_fold_change: float = 0.5,
    min_share: float = 0.1,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Rank the features of each modality by how well they tell each cluster from the others (paper, 4.2 and 4.3).

    Wilcoxon's rank-sum test of :func:`scanpy.tl.rank_genes_groups` on normalised *raw* counts. Isotype controls, which are
    recognised by their names, are no markers; they measure the noise of the other antibodies.

    Parameters
    ----------
    mdata
        Raw counts, and clusters.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of groups in ``mdata.obs`` or in a modality's ``obs``; ``None`` takes the clusters.
    groups
        Groups to rank features for; ``None`` takes all that have two cells or more.
    reference
        ``"rest"`` compares with all other cells; the name of a group compares with that group, as a volcano plot of a pair
        wants it.
    modalities
        Modalities to look at; by default those that were joined.
    layer
        Layer of the raw counts, one for all or by modality; ``None`` takes what :func:`scmag_muon.tl.scmag` was told.
    min_fold_change, min_share
        What makes a marker: the least log2 fold change, and the least share of the group's cells that have any count.
    key_added
        Name under which the table is written; ``None`` is ``f"{key}_markers"``, or ``f"{key}_markers_{group}_vs_{reference}"``
        where one group is compared with another.

    Returns
    -------
    A row per group, modality and feature, the best first: ``modality``, ``cluster``, ``feature``; ``score`` (z of the rank-sum
    test, positive where the feature is higher in the group); ``log2_fold_change`` of the normalised counts; ``auroc``, the
    chance that a cell of the group has more of it than one of the others (0.5: none; an effect size that does not grow with
    the number of cells); ``p`` and ``p_adjusted`` (Benjamini-Hochberg within group and modality); ``share`` and
    ``share_others``, the share of cells with any count, 0 to 1; ``next_cluster``, the other cluster with the highest mean, and
    ``log2_fold_change_next`` against it: above 0 where the feature is highest in this cluster; ``over_controls``, log2 of the
    mean count over the highest mean of an isotype control in the same cells, below 0 in the noise, missing without controls;
    ``is_marker``, whether fold change and share reach the least, and the feature is not in the noise.

    Written to ``mdata.uns[key_added]`` as ``table``, with ``params``.

    Raises
    ------
    KeyError
        Where clusters, a modality or a layer are not there.
    ValueError
        Where a group does not exist or has fewer than two cells, there are fewer than two groups, a layer holds no raw counts, or
        a least value is out of range.

    Notes
    -----
    Only raw counts are taken: ``layer="scmag"`` is refused. A denoised value is borrowed from the cell's neighbours, and
    clusters were made of those same neighbours, so tests on denoised values find differences where there are none.
    The clusters themselves were made from these counts too: read p values as a ranking, and trust effect sizes.

    RNA and ATAC are normalised to the median library size. Each protein is divided by its geometric mean across cells, as
    ``muon.prot.pp.clr`` does it. Then log(1 + x).

    The table holds ribosomal and mitochondrial genes. Pictures and short lists leave them out.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> table = smm.tl.markers(mdata, groupby="cell_type")
    >>> sorted(table["modality"].value_counts().items())
    [('prot', 36), ('rna', 240)]
    >>> names = list(mdata.obs["cell_type"].cat.categories)
    >>> pair = smm.tl.markers(mdata, groupby="cell_type", groups=names[:1], reference=names[1])
    >>> len(pair)
    92
    """
    check_number("min_fold_change", min_fold_change, low=0)
    check_number("min_share", min_share, low=0, high=1)
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    names = _values.used_modalities(mdata, key, modalities)
    _mudata.check_named(mdata, names)
    chosen = _groups(labels, groups, reference, column)
    if key_added is None:
        paired = reference != "rest" and len(chosen) == 1
        key_added = Keys.pair(key, chosen[0], reference) if paired else Keys.markers(key)
    else:
        check_key(key_added, argument="key_added")
    _mudata.check_free_record(mdata, key_added, "markers", argument="key_added")
    _mudata.check_layer(mdata, layer, names)
    layers = {name: _mudata.layer_of(layer, name) or _values.counts_layer(mdata, key, name) for name in names}
    tables = [_rank(mdata, name, asked, labels, chosen, reference, key) for name, asked in layers.items()]
    if all(table is None for table in tables):
        raise ValueError(
            f"No modality of {names} has two cells of a group of {column!r} and others to compare them with."
        )
    table = pd.concat([table for table in tables if table is not None], ignore_index=True)
    table["is_marker"] = (
        (table["log2_fold_change"] >= min_fold_change) & (table["share"] >= min_share) & ~(table["over_controls"] < 0)
    )
    for text, categories in (("modality", names), ("cluster", chosen), ("feature", None), ("next_cluster", None)):
        table[text] = pd.Categorical(table[text].astype(str), categories=categories)
    params = {
        "key": key,
        "groupby": column,
        "reference": reference,
        "groups": chosen,
        "modalities": names,
        "layer": layer,
        "min_fold_change": min_fold_change,
        "min_share": min_share,
    }
    sources = made_from(mdata, obs=[column], counts=layers)
    mdata.uns[key_added] = _mudata.make_record(
        "markers", {"params": params, "table": table}, made_from=sources, key=key
    )
    return table


def _groups(labels: pd.Series, groups: Sequence[str] | None, reference: str, column: str) -> list[str]:
    sizes = labels.value_counts()
    if len(sizes) < 2:
        raise ValueError(f"{column!r} holds {len(sizes)} group: features tell apart two groups or more.")
    known = [str(name) for name in labels.cat.categories]
    wanted = known if groups is None else _values.as_names(groups)
    for name in [*wanted, *([] if reference == "rest" else [reference])]:
        if name not in known:
            raise ValueError(f"No group {name!r} in {column!r}, which has {known}.")
    wanted = [name for name in wanted if name != reference]
    counts = {str(name): int(size) for name, size in sizes.items()}
    small = [name for name in [*wanted, reference] if counts.get(name, 2) < 2]
    if small and (groups is not None or reference in small):
        raise ValueError(f"Group {small[0]!r} of {column!r} has one cell only: there is nothing to compare.")
    if small:
        logger.warning("Groups %s of %r have one cell only and get no markers.", small, column)
    kept = [name for name in wanted if name not in small]
    if not kept:
        raise ValueError(f"No group of {column!r} to rank features for has two cells or more.")
    return kept


def _rank(
    mdata: MuData, modality: str, layer: str | None, labels: pd.Series, groups: list[str], reference: str, key: str
) -> pd.DataFrame | None:
    adata = mdata.mod[modality]
    values = _values.normalized_counts(mdata, modality, layer=layer, key=key, across="cells")
    labels = labels.reindex(adata.obs_names)
    known = labels.notna().to_numpy()
    text = pd.Categorical(labels[known].astype(str), categories=[str(name) for name in labels.cat.categories])
    sizes = pd.Series(text).value_counts()
    alone = sizes == len(text) if reference == "rest" else pd.Series(sizes[reference] < 2, index=sizes.index)
    small = [group for group in groups if sizes[group] < 2 or alone[group]]
    if small:
        logger.warning("Groups %s get no markers in modality %r, which too few of their cells have.", small, modality)
    groups = [group for group in groups if group not in small]
    if not groups:
        return None
    controls = np.zeros(adata.n_vars, dtype=bool)
    if _values.kind_in_use(mdata, key, modality) == "protein":
        controls = is_isotype_control(adata.var_names)
    if controls.all():
        raise ValueError(f"All {adata.n_vars} features of modality {modality!r} are isotype controls: leave it out.")
    counts = _values.counts_in_use(mdata, key, modality, layer)[known]
    values = values[known][:, ~controls]
    scratch = AnnData(
        sp.csr_matrix(values) if sp.issparse(values) else values,
        obs=pd.DataFrame({"group": text}, index=adata.obs_names[known].astype(str)),
        var=pd.DataFrame(index=adata.var_names[~controls].astype(str)),
    )
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        # scanpy 1.11 adds columns one by one
        warnings.filterwarnings("ignore", category=pd.errors.PerformanceWarning)
        sc.tl.rank_genes_groups(
            scratch, "group", groups=groups, reference=reference, method="wilcoxon", tie_correct=False, pts=True
        )
    table = sc.get.rank_genes_groups_df(scratch, group=None)
    if "group" not in table:
        table.insert(0, "group", groups[0])
    table = table.rename(columns=_NAMES)
    if "share_others" not in table:
        shares = scratch.uns["rank_genes_groups"]["pts"][reference]
        table["share_others"] = shares.reindex(table["feature"]).to_numpy()
        own = scratch.uns["rank_genes_groups"]["pts"]
        table["share"] = [own.at[f, g] for f, g in zip(table["feature"], table["cluster"], strict=True)]
    n_in = table["cluster"].astype(str).map(sizes).to_numpy(dtype=float)
    n_out = float(len(text)) - n_in if reference == "rest" else np.full(len(table), float(sizes[reference]))
    # without a correction for ties, scanpy's z is linear in the area under the curve
    table["auroc"] = 0.5 + table["score"] * np.sqrt(n_in * n_out * (n_in + n_out + 1) / 12) / (n_in * n_out)
    table["auroc"] = table["auroc"].clip(0, 1)
    table.insert(0, "modality", modality)
    table = _with_next(table, _means(values, text, scratch.var_names))
    return _with_controls(table, _means(counts, text, adata.var_names.astype(str)), controls).reindex(columns=_COLUMNS)


def _means(values: sp.csr_array | np.ndarray, groups: pd.Categorical, features: pd.Index) -> pd.DataFrame:
    """Mean of each group that holds any cell, ``(n_groups, n_features)``."""
    groups = groups.remove_unused_categories()
    shares = 1 / np.bincount(groups.codes)[groups.codes]
    averaging = sp.csr_array((shares, (groups.codes, np.arange(len(groups)))))
    return pd.DataFrame((averaging @ sp.csr_array(values)).toarray(), index=groups.categories, columns=features)


def _with_next(table: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Compare each group with the one that has the highest mean among the others."""
    row = means.index.get_indexer(table["cluster"].astype(str))
    column = means.columns.get_indexer(table["feature"].astype(str))
    order = np.argsort(-means.to_numpy(), axis=0, kind="stable")
    following = np.where(order[0][column] == row, order[1][column], order[0][column])
    level = np.expm1(means.to_numpy()) + _TINY
    table["next_cluster"] = means.index.to_numpy()[following]
    table["log2_fold_change_next"] = np.log2(level[row, column] / level[following, column])
    return table


def _with_controls(table: pd.DataFrame, means: pd.DataFrame, controls: np.ndarray) -> pd.DataFrame:
    """Compare mean counts with those of the isotype control that binds most in the same group."""
    table["over_controls"] = np.nan
    if controls.any():
        noise = means.to_numpy()[:, controls].max(axis=1)
        row = means.index.get_indexer(table["cluster"].astype(str))
        column = means.columns.get_indexer(table["feature"].astype(str))
        table["over_controls"] = np.log2((means.to_numpy()[row, column] + 1) / (noise[row] + 1))
    return table
