"""The tree of a run's clusters: sizes, splits, and what carries each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon._levels import Levels, read_levels
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData

_SHOWN = 2  # features of each side
_LARGEST = 17.0  # points across
_SMALLEST = 3.5
_WIDEST_NAME = 15


@_canvas.described
def cluster_tree(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """The clusters of a run from one to many, a row for each split, with the features that tell its two sides apart.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.cluster_tree` left it.
    key
        The ``key_added`` of the run.

    Returns
    -------
    Two axes. On the left the tree: each row has one cluster more than the row above it, as :func:`scmag_muon.tl.cut` gives them. The
    area of a circle is the number of cells, its colour that of the run's cluster; grey clusters hold several of these. The names are
    those of the run's clusters, in the row of the run. On the right, in the row of each split, the features of highest AUROC that are higher on its
    left and on its right side, coloured by modality.

    Raises
    ------
    KeyError
        Where there is no run, no tree or no table.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.cluster_tree(mdata)
    >>> axes = smm.pl.cluster_tree(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    levels = read_levels(mdata, key)
    record = _draw.record(mdata, Keys.cluster_tree(key), f"scmag_muon.tl.cluster_tree(mdata, key={key!r})")
    finest = int(record["params"]["n_clusters"])
    places = _places(levels, finest)
    height = 1.1 + 0.3 * finest
    width = float(np.clip(0.36 * finest, 3.0, 9.0))
    colors = _colors.of_column(mdata, key, palette)
    axes = canvas.subplots(1, 2, (width + 5.4, height), sharey=True, width_ratios=[width, 5.0])[0]
    names = _names(mdata, levels, key)
    _draw_tree(axes[0], levels, places, finest, [(name, colors.get(name, _draw.GREY)) for name in names])
    _draw_features(axes[1], record["table"], places, levels, finest)
    n = levels.tree.n_clusters
    axes[0].set_title(f"{n} clusters of the run, and levels from 1 to {finest}", loc="left", fontsize=10)
    axes[0].set_ylim(finest + 0.7, 0.4)
    axes[0].set_ylabel("number of clusters")
    return canvas.done(axes)


def _places(levels: Levels, finest: int) -> dict[int, float]:
    """Place of each node across, the larger of two sides on the left; a node lies in the middle of what it falls apart in."""
    tree = levels.tree
    sizes = {node: int(tree.sizes[tree.leaves_of(node)].sum()) for node in range(2 * tree.n_leaves - 1)}
    ends = set(tree.nodes_at(finest))
    places: dict[int, float] = {}

    def walk(node: int) -> None:
        if node in ends:
            places[node] = float(sum(end in places for end in ends))
            return
        sides = sorted(map(int, tree.joins[node - tree.n_leaves]), key=lambda side: -sizes[side])
        for side in sides:
            walk(side)
        places[node] = (places[sides[0]] + places[sides[1]]) / 2

    walk(2 * tree.n_leaves - 2)
    return places


def _names(mdata: MuData, levels: Levels, key: str) -> list[str]:
    """What most cells of each cluster of the run are called, for clusters may have been named or joined by hand since."""
    labels = _values.cluster_column(mdata, key).astype(object)
    codes = levels.codes(levels.tree.n_clusters)
    counts = [labels[codes == code].value_counts() for code in range(len(levels.names))]
    return [str(found.index[0]) if len(found) else own for own, found in zip(levels.names, counts, strict=True)]


def _draw_tree(
    ax: Axes, levels: Levels, places: dict[int, float], finest: int, clusters: list[tuple[str, Any]]
) -> None:
    """``clusters`` are names and colours of the run's clusters."""
    tree = levels.tree
    own = tree.nodes_at(tree.n_clusters)
    cluster_of = {leaf: int(tree.clusters[leaf]) for leaf in range(tree.n_leaves)}
    if tree.n_clusters <= finest:
        ax.axhspan(tree.n_clusters - 0.4, tree.n_clusters + 0.4, color="#EEEEEE", zorder=0, linewidth=0)
    total = tree.sizes.sum()
    for node, x in places.items():
        leaves = tree.leaves_of(node)
        born, gone = _born(levels, node), min(_gone(levels, node), finest)
        within = {cluster_of[leaf] for leaf in leaves}
        color = clusters[within.pop()][1] if len(within) == 1 else _draw.GREY
        ax.plot([x, x], [born, gone + 0.5 * (gone < finest)], color=color, linewidth=1.2, zorder=1)
        if gone < finest:
            sides = [places[int(side)] for side in tree.joins[node - tree.n_leaves]]
            ax.plot(sides, [gone + 0.5] * 2, color=_draw.GREY, linewidth=1.2, zorder=1)
            for side in sides:
                ax.plot([side, side], [gone + 0.5, gone + 1], color=_draw.GREY, linewidth=1.2, zorder=1)
        size = max(_LARGEST * np.sqrt(tree.sizes[leaves].sum() / total), _SMALLEST)
        ax.plot([x], [born], marker="o", markersize=size, color=color, zorder=2)
        if node in own:
            name = clusters[cluster_of[leaves[0]]][0]
            ax.annotate(
                _draw.text(name),
                (x, tree.n_clusters),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                fontweight="bold",
            )
        if gone == finest:
            cells = f"{tree.sizes[leaves].sum():,}"
            ax.text(x, finest + 0.4, cells, ha="center", va="top", fontsize=7, rotation=90, color=_draw.GREY)
    ax.set_xlim(-0.8, finest - 0.2)
    ax.set_xticks([])
    ax.set_xlabel("cells", fontsize=8, labelpad=12)
    ax.set_yticks(range(1, finest + 1))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _born(levels: Levels, node: int) -> int:
    """The coarsest level of which the node is a cluster."""
    for n in range(1, levels.tree.n_leaves + 1):
        if node in levels.tree.nodes_at(n):
            return n
    return levels.tree.n_leaves


def _gone(levels: Levels, node: int) -> int:
    """The finest level of which the node is a cluster."""
    n_leaves = levels.tree.n_leaves
    return n_leaves if node < n_leaves else 2 * n_leaves - 1 - node


def _draw_features(ax: Axes, table: pd.DataFrame, places: dict[int, float], levels: Levels, finest: int) -> None:
    tree = levels.tree
    modalities = [str(name) for name in table["modality"].cat.categories] if len(table) else []
    colors = dict(zip(modalities, (_draw.BLUE, _draw.ORANGE, *_colors.COLORS[2:]), strict=False))
    left, right = 0.0, 0.52
    for n in range(2, finest + 1):
        sides = sorted((int(side) for side in tree.joins[tree.n_leaves - n]), key=places.__getitem__)
        rows = table[table["n_clusters"] == n]
        for x, side in zip((left, right), sides, strict=True):
            best = rows[rows["node"] == side].sort_values("auroc", ascending=False, kind="stable").head(_SHOWN)
            for place, (_, row) in enumerate(best.iterrows()):
                shown = f"{_draw.text(row['feature'], _WIDEST_NAME)} {row['auroc']:.2f}"
                ax.text(x + 0.245 * place, n - 0.5, shown, fontsize=7, va="center", color=colors[str(row["modality"])])
    for x, named in ((left, "left"), (right, "right")):
        ax.text(x, 1.0, f"higher on the {named} side (AUROC)", fontsize=8, va="center")
    ax.set_xlim(0, 1.02)
    ax.axis("off")
    handles: list[Any] = [
        Line2D([], [], marker="s", linestyle="", markersize=5, color=color, label=_draw.text(name))
        for name, color in colors.items()
    ]
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=len(handles),
            frameon=False,
            fontsize=8,
        )
