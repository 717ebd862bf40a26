"""Names of the clusters, and how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    from mudata import MuData


@_canvas.described
def annotation(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    annotation_key: str | None = None,
    basis: str = "X_umap",
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Map of the cells coloured by type, and the score of each type in each cluster.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.annotate` left it, with a map of the cells.
    key
        The ``key`` of :func:`scmag_muon.tl.annotate`.
    annotation_key
        Its ``key_added``; ``None`` is ``f"{key}_type"``.
    basis
        Map in ``mdata.obsm``.

    Returns
    -------
    The axes of the map and of the scores. A score is the mean of the type's markers in standard deviations from the mean of
    all clusters. A frame marks the type that a cluster is named after; a cluster without a frame is ``"unknown"``.

    Raises
    ------
    KeyError
        Where clusters were not named, or there is no map.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> lists = {"one": ["gene_0", "gene_1"], "two": ["gene_2", "gene_3"]}
    >>> table = smm.tl.annotate(mdata, markers=lists, groupby="cell_type")
    >>> mdata.obsm["X_umap"] = mdata["prot"].X[:, :2].toarray()
    >>> axes = smm.pl.annotation(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    slot = annotation_key or Keys.cell_type(key)
    found = _draw.record(mdata, slot, f"scmag_muon.tl.annotate(mdata, key={key!r})", "scores")
    xy = _draw.coordinates(mdata, basis, key)
    table = found["table"]
    scores = found["scores"].set_axis(list(dict.fromkeys(found["markers"]["type"].astype(str))), axis=1)
    scores = scores.loc[:, scores.max() > 0] if (scores.max() > 0).any() else scores
    n_clusters, n_types = scores.shape
    width, height = 2.2 + 0.3 * n_types, max(4.2, 2.4 + 0.25 * n_clusters)
    axes = canvas.subplots(1, 2, (6.4 + width, height), width_ratios=[6.4, width])[0]
    types = _values.cluster_column(mdata, slot, argument="annotation_key")
    groups = str(found["params"]["groupby"])
    like = _values.cluster_column(mdata, groups, argument="groupby"), _colors.of_column(mdata, groups)
    colors = _colors.of_column(mdata, slot, palette, like=like)
    _draw.categories_on_map(axes[0], xy, types, "cell types", colors=colors, on_data=False, numbered=True)
    limit = max(float(np.abs(scores.to_numpy()).max()), 1e-6)
    image = axes[1].imshow(
        scores, cmap=_draw.DIVERGING, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    for row, cluster in enumerate(scores.index):
        best = str(table.at[cluster, "type"])
        if best in scores:
            column = scores.columns.get_loc(best)
            axes[1].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5))
    axes[1].set_xticks(range(n_types), [_draw.text(name, 32) for name in scores.columns], rotation=90, fontsize=8)
    axes[1].set_yticks(range(n_clusters), [_draw.text(name) for name in scores.index], fontsize=8)
    axes[1].tick_params(length=0)
    axes[1].spines[:].set_visible(False)
    axes[1].set_ylabel("cluster")
    bar = axes[1].figure.colorbar(image, ax=axes[1], shrink=0.6, aspect=15)
    bar.set_label("score (standard deviations)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return canvas.done(axes)
