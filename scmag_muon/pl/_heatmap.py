"""Proteins, or the best markers of another modality, by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import dendrogram

from scmag_muon import _values
from scmag_muon._feature_names import is_isotype_control
from scmag_muon._keys import Keys
from scmag_muon._made_from import dendrogram_is_of
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from mudata import MuData

_MOST = 60


@_canvas.described
def heatmap(
    mdata: MuData,
    *,
    modality: str | None = None,
    features: Sequence[str] | None = None,
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    dendrogram_key: str | None = None,
    housekeeping: bool = False,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Mean of each feature in each cluster, clusters in the order of a dendrogram (paper, figure 8c).

    Parameters
    ----------
    mdata
        What :func:`scmag_muon.tl.scmag` wrote, and the dendrogram of
        ``scanpy.tl.dendrogram(mdata, groupby="scmag", use_rep="X_scmag")``.
    modality
        Modality to show; ``None`` is the last of those joined, as the proteins of a CITE-seq set.
    features
        Features to show, in this order; ``None`` shows all of a panel of up to 60 but isotype controls, else the best three
        markers of each cluster, which :func:`scmag_muon.tl.markers` must have ranked. They are ordered by the cluster in which
        they are highest.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of groups; ``None`` takes the clusters.
    dendrogram_key
        Name of the dendrogram in ``mdata.uns``; ``None`` is scanpy's, ``f"dendrogram_{groupby}"``.
    housekeeping
        Take ribosomal and mitochondrial genes as markers too.

    Returns
    -------
    The axes of the heat map and of the dendrogram. Colours are log(1 + normalised count), proteins
    normalised across cells, mean over the cluster,
    standardised over the clusters: standard deviations above or below the mean of the clusters. Cells that lack the
    modality don't count; a cluster of such cells alone is grey.

    Raises
    ------
    KeyError
        Where clusters, dendrogram, features or markers are not there.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> sc.tl.dendrogram(mdata, groupby="scmag", use_rep="X_scmag")
    >>> axes = smm.pl.heatmap(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    names = _values.used_modalities(mdata, key)
    modality = modality or names[-1]
    if modality not in mdata.mod:
        raise KeyError(f"No modality {modality!r} in the MuData, which has {list(mdata.mod)}.")
    slot = dendrogram_key or f"dendrogram_{column}"
    verb = f"scanpy.tl.dendrogram(mdata, groupby={column!r}, use_rep={Keys.latent(key)!r})"
    tree = _draw.record(mdata, slot, verb, "linkage")
    of_latent = str(tree.get("use_rep")) == Keys.latent(key) and Keys.latent(key) in mdata.obsm
    if not dendrogram_is_of(tree, labels, mdata.obsm[Keys.latent(key)] if of_latent else None):
        raise KeyError(f"mdata.uns[{slot!r}] is of other clusters. Run {verb}.")
    chosen = _features(mdata, modality, features, key, housekeeping=housekeeping)
    found = [_values.find_feature(mdata, name, [modality]) for name in chosen]
    values = pd.DataFrame(
        {f.name: v for f, v in _values.normalized_features(mdata, found, key=key, across="cells").items()}
    )
    means = values.groupby(labels.astype(str).to_numpy()).mean()
    drawn = dendrogram(np.asarray(tree["linkage"]), labels=list(map(str, labels.cat.categories)), no_plot=True)
    means = means.loc[drawn["ivl"]]
    spread = means.std(axis=0, ddof=0)
    standardised = (means - means.mean(axis=0)) / spread.where(spread > 0, 1.0)
    if features is None:
        standardised = standardised.iloc[:, _by_highest(standardised)]
    return _draw_heatmap(canvas, standardised, drawn, modality)


def _by_highest(standardised: pd.DataFrame) -> np.ndarray:
    """Order of the columns: by the row in which they are highest, and there the highest first."""
    values = np.nan_to_num(standardised.to_numpy(), nan=-np.inf)
    return np.lexsort((-values.max(axis=0), values.argmax(axis=0)))


def _features(
    mdata: MuData, modality: str, features: Sequence[str] | None, key: str, *, housekeeping: bool
) -> list[str]:
    if features is not None:
        return [features] if isinstance(features, str) else list(features)
    if mdata.mod[modality].n_vars <= _MOST:
        names = mdata.mod[modality].var_names
        return list(names[~is_isotype_control(names)]) or list(names)
    found = _draw.record(mdata, Keys.markers(key), "scmag_muon.tl.markers(mdata), or name features=")
    table = found["table"]
    best = _values.short_list(table[table["modality"].astype(str) == modality], 3, housekeeping=housekeeping)
    best = best.sort_values("cluster", kind="stable")
    return list(dict.fromkeys(best["feature"].astype(str)))[:_MOST]


def _draw_heatmap(canvas: _canvas.Canvas, standardised: pd.DataFrame, drawn: dict[str, Any], title: str) -> np.ndarray:
    n_groups, n_features = standardised.shape
    width, height = 2.6 + 0.24 * n_features, 1.6 + 0.26 * n_groups
    axes = canvas.subplots(
        1,
        2,
        (max(width, 5.0), max(height, 2.8)),
        gridspec_kw={"width_ratios": [max(width - 1.6, 3), 0.8], "wspace": 0.01},
    )[0]
    ax, branches = axes
    limit = max(float(np.nan_to_num(np.abs(standardised.to_numpy())).max()), 1e-6)
    image = ax.imshow(
        standardised, cmap=_draw.DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    ax.set_facecolor(_colors.MISSING)
    ax.set_xticks(range(n_features), [_draw.text(name) for name in standardised.columns], rotation=90, fontsize=8)
    ax.set_yticks(range(n_groups), [_draw.text(name) for name in standardised.index], fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_ylabel("cluster")
    ax.set_title(_draw.text(title), loc="left", fontsize=10)
    for heights, places in zip(drawn["dcoord"], drawn["icoord"], strict=True):
        # scipy puts the leaves at 5, 15, 25, ...
        branches.plot(heights, [(place - 5) / 10 for place in places], color=_draw.GREY, linewidth=1)
    branches.set_ylim(n_groups - 0.5, -0.5)
    branches.set_xlim(left=0)
    branches.axis("off")
    bar = ax.figure.colorbar(image, ax=branches, shrink=0.8, aspect=15, location="right")
    bar.set_label("mean of the cluster,\nstandardised", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return canvas.done(axes)
