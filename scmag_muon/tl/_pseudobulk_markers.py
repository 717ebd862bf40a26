"""Differences between groups of cells with samples as replicates."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_number
from scmag_muon._feature_names import is_isotype_control
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import made_from
from scmag_muon.tl import _deseq

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)


def pseudobulk_markers(
    mdata: MuData,
    *,
    sample_key: str,
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    groups: Sequence[str] | None = None,
    reference: str = "rest",
    within: str | None = None,
    modalities: Sequence[str] | None = None,
    layer: str | Mapping[str, str | None] | None = None,
    min_cells: int = 10,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Test features between clusters or conditions with samples as replicates: counts are summed by sample (DESeq2).

    Cells of one donor are no replicates of each other. :func:`scmag_muon.tl.markers` takes them for such, so its p values are too
    small for a claim about donors. Here each sample gives one profile for each side of a comparison (``decoupler.pp.pseudobulk``),
    and the profiles are compared by ``pydeseq2``. Samples that have both sides, as clusters have, are compared within themselves.

    Parameters
    ----------
    mdata
        Raw counts, and groups of cells.
    sample_key
        Column of samples, as donors: the replicates.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of the groups to compare, clusters or conditions; ``None`` takes the clusters.
    groups
        Groups to test; ``None`` takes all that have enough samples.
    reference
        ``"rest"`` compares with all other cells; or the name of a group, as ``"healthy"``.
    within
        Column of groups within which to compare, as clusters with ``groupby="condition"``; ``None`` takes all cells together.
    modalities
        Modalities to look at; by default those that were joined.
    layer
        Layer of the raw counts, one for all or by modality; ``None`` takes what :func:`scmag_muon.tl.scmag` was told.
    min_cells
        Sums of fewer cells are left out.
    key_added
        Name under which the table is written; ``None`` is ``f"{key}_pseudobulk"``.

    Returns
    -------
    A row per comparison, modality and feature, the smallest p first: ``modality``; ``within``, where it was asked for; ``cluster``, the
    group; ``feature``; ``score`` (Wald's statistic, positive where the feature is higher in the group); ``log2_fold_change`` and its
    ``standard_error``; ``mean_count`` of the normalised sums; ``p`` and ``p_adjusted`` (Benjamini-Hochberg within a comparison and
    modality), missing where one sample is an outlier; ``share`` and ``share_others``, the share of cells with any count;
    ``n_samples`` and ``n_samples_reference``. Features with fewer than 10 counts in all, and isotype controls, are left out.

    Written to ``mdata.uns[key_added]`` as ``table``, with ``params``; :func:`scmag_muon.pl.volcano` draws it with ``markers_key=``.

    Raises
    ------
    ImportError
        Where decoupler or pydeseq2 is not installed.
    KeyError
        Where a column, a modality or a layer is not there.
    ValueError
        Where a group that was asked for, or every group, has fewer than two samples on a side, cells have no sample, or there are
        fewer than two groups.

    Notes
    -----
    Clusters were made from the counts that are tested here. Samples as replicates do not change this: between clusters, read p values
    as a ranking. Between conditions within a cluster they are tests, as far as the clusters do not depend on the condition.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=600, n_vars=80, n_prot=12, n_clusters=3, n_batches=3)
    >>> table = smm.tl.pseudobulk_markers(mdata, sample_key="batch", groupby="cell_type")
    >>> sorted(set(table["n_samples"]))
    [3]
    """
    check_number("min_cells", min_cells, integer=True, low=1)
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    samples = pd.Series(_mudata.get_batches(mdata, sample_key, argument="sample_key"), index=mdata.obs_names).astype(
        str
    )
    inner = None if within is None else _values.cluster_column(mdata, within, argument="within").astype(object)
    names = _values.used_modalities(mdata, key, modalities)
    _mudata.check_named(mdata, names)
    chosen = _known_groups(labels, groups, reference, column)
    key_added = key_added or Keys.pseudobulk(key)
    check_key(key_added, argument="key_added")
    _mudata.check_free_record(mdata, key_added, "pseudobulk_markers", argument="key_added")
    _mudata.check_layer(mdata, layer, names)
    packages = _deseq.load_packages()
    layers = {name: _mudata.layer_of(layer, name) or _values.counts_layer(mdata, key, name) for name in names}
    tables, refused = [], []
    for name in names:
        counts = _counts(mdata, name, layers[name], key)
        for place in [None] if inner is None else sorted(set(inner.dropna().astype(str))):
            inside = pd.Series(data=True, index=labels.index) if inner is None else inner.astype(str) == place
            for group in chosen:
                sides = _sides(labels, group, reference).where(inside)
                bulk = _deseq.sums(packages, counts, samples, sides, min_cells)
                fault = _deseq.fault(bulk, group, reference, min_cells)
                if fault is not None:
                    refused.append(f"{name}{'' if place is None else f', {place!r}'}: {fault}")
                    continue
                table = _deseq.compared(packages, bulk).assign(modality=name, cluster=group)
                tables.append(table if place is None else table.assign(within=place))
    _tell(refused, asked=groups is not None or not tables, sample_key=sample_key)
    table = _whole(tables, names, chosen, within)
    params = {
        "key": key,
        "sample_key": sample_key,
        "groupby": column,
        "groups": chosen,
        "reference": reference,
        "within": within,
        "modalities": names,
        "layer": layer,
        "min_cells": min_cells,
    }
    sources = made_from(mdata, obs=[column, sample_key, within], counts=layers)
    contents = {"params": params, "table": table}
    mdata.uns[key_added] = _mudata.make_record("pseudobulk_markers", contents, made_from=sources, key=key)
    return table


def _known_groups(labels: pd.Series, groups: Sequence[str] | None, reference: str, column: str) -> list[str]:
    known = [str(name) for name in labels.cat.categories]
    if len(known) < 2:
        raise ValueError(f"{column!r} holds {len(known)} group: there is nothing to compare.")
    wanted = known if groups is None else _values.as_names(groups)
    for name in [*wanted, *([] if reference == "rest" else [reference])]:
        if name not in known:
            raise ValueError(f"No group {name!r} in {column!r}, which has {known}.")
    kept = [name for name in wanted if name != reference]
    if not kept:
        raise ValueError(f"`groups` holds no group of {column!r} beside the reference {reference!r}.")
    return kept


def _counts(mdata: MuData, modality: str, layer: str | None, key: str) -> AnnData:
    adata = mdata.mod[modality]
    counts = _values.counts_in_use(mdata, key, modality, layer)
    kept = np.ones(adata.n_vars, dtype=bool)
    if _values.kind_in_use(mdata, key, modality) == "protein":
        kept = ~is_isotype_control(adata.var_names)
    names = pd.Index(adata.var_names[kept].astype(str))
    return AnnData(
        sp.csr_matrix(counts[:, kept]),
        obs=pd.DataFrame(index=adata.obs_names.astype(str)),
        var=pd.DataFrame(index=names),
    )


def _sides(labels: pd.Series, group: str, reference: str) -> pd.Series:
    """Which side of the comparison each cell is on, if any."""
    text = labels.astype(object).where(labels.notna(), None).map(lambda name: None if name is None else str(name))
    others = text.notna() & (text != group) if reference == "rest" else text == reference
    sides = pd.Series(None, index=labels.index, dtype=object)
    sides[others] = "reference"
    sides[text == group] = "group"
    return sides


def _tell(refused: list[str], *, asked: bool, sample_key: str) -> None:
    if not refused:
        return
    message = f"Two samples of {sample_key!r} or more are needed on each side. {'; '.join(refused)}."
    if asked:
        raise ValueError(f"{message} Name other `groups`, or lower `min_cells`.")
    logger.warning("%s These are left out.", message)


def _whole(tables: list[pd.DataFrame], names: list[str], groups: list[str], within: str | None) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    first = ["modality", *(["within"] if within else []), "cluster", "feature", *_deseq.NAMES.values()]
    table = table[[*first, "share", "share_others", "n_samples", "n_samples_reference"]]
    for text, categories in (("modality", names), ("cluster", groups), ("feature", None), ("within", None)):
        if text in table:
            table[text] = pd.Categorical(table[text].astype(str), categories=categories)
    return table
