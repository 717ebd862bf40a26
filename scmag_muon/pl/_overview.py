"""Clusters, what is known of the cells, and a marker of each cluster, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _mudata, _values
from scmag_muon._columns import batches_of_run
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    import pandas as pd
    from mudata import MuData


@_canvas.described
def overview(
    mdata: MuData,
    *,
    labels: str | None = None,
    batch_key: str | None = None,
    key: str = Keys.SCMAG,
    markers_key: str | None = None,
    basis: str = "X_umap",
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Clusters, known labels, batches and confidence on the map, with the best marker of each cluster in each modality.

    Parameters
    ----------
    mdata
        What :func:`scmag_muon.tl.scmag` and :func:`scmag_muon.tl.markers` wrote, and a UMAP of the clustering space.
    labels
        Column of known labels to show.
    batch_key
        Column of batches to show; ``None`` shows the one that :func:`scmag_muon.tl.scmag` was told, if any.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    markers_key
        The ``key_added`` of :func:`scmag_muon.tl.markers`; ``None`` is ``f"{key}_markers"``.
    basis
        Map in ``mdata.obsm``.
    palette
        Colours of the clusters, a list, a colour map's name or a dict; ``None`` is as in :func:`scmag_muon.pl.annotation`. Known labels
        have the colour of the cluster they share most cells with, unless ``mdata.uns[f"{labels}_colors"]`` is there.

    Returns
    -------
    The axes, row by row. Markers are coloured by log(1 + normalised count), scaled to each marker's 99th percentile, or
    its maximum where fewer cells have it. Confidence is the share of a cell's nearest cells that are in its cluster. More than eight known labels are numbered on the map as well.

    Raises
    ------
    KeyError
        Where clusters, markers, the map or a column are not there.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.markers(mdata)
    >>> mdata.obsm["X_umap"] = mdata.obsm["X_scmag"][:, :2]  # or scanpy.pp.neighbors and scanpy.tl.umap
    >>> axes = smm.pl.overview(mdata, labels="cell_type")
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    xy = _draw.coordinates(mdata, basis, key)
    clusters = _values.cluster_column(mdata, key)
    table = _draw.record(mdata, markers_key or Keys.markers(key), f"scmag_muon.tl.markers(mdata, key={key!r})")["table"]
    batch_key = batch_key or batches_of_run(mdata, key)
    columns = {"known labels": labels, "batch": batch_key}
    shown = {title: column for title, column in columns.items() if column is not None}
    known = {column: _values.cluster_column(mdata, column, argument="labels") for column in shown.values()}
    confidence = _mudata.get_obs_column(mdata, Keys.confidence(key), argument="key").to_numpy(dtype=float)
    best = best_marker(table)
    features = list(dict.fromkeys(best.values()))
    values = _values.normalized_features(mdata, features, key=key, across="cells")
    figure, top, bottom = canvas.two_grids(2 + len(shown), len(best))
    colors = _colors.of_column(mdata, key, palette)
    _draw.categories_on_map(top[0], xy, clusters, "clusters", colors=colors)
    for ax, (title, column) in zip(top[1:-1], shown.items(), strict=True):
        _draw.categories_on_map(
            ax,
            xy,
            known[column],
            f"{title} ({_draw.text(column)})",
            colors=_colors.of_column(mdata, column, like=None if title == "batch" else (clusters, colors)),
            on_data=False,
            numbered=title == "known labels",
        )
    _draw.values_on_map(top[-1], xy, confidence, "confidence", limits=(0, 1))
    figure.suptitle("best marker of each cluster: log(1 + normalised count)", x=0.005, ha="left", fontsize=11)
    for ax, ((cluster, modality), feature) in zip(bottom, best.items(), strict=True):
        title = f"{_draw.text(cluster)}: {_draw.text(feature.name, 26)} ({_draw.text(modality)})"
        _draw.values_on_map(ax, xy, values[feature], title, limits=(0, _draw.highest(values[feature])))
    return canvas.done(np.concatenate([top, bottom]))


def best_marker(table: pd.DataFrame) -> dict[tuple[str, str], _values.Feature]:
    """The best marker of each cluster and modality that has one, all of one modality first."""
    rows = _values.short_list(table, 1).sort_values(["modality", "cluster"], kind="stable")
    return {
        (str(row.cluster), str(row.modality)): _values.Feature(str(row.modality), str(row.feature))
        for row in rows.itertuples()
    }
