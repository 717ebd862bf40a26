"""Differences of a pair of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._checks import check_number
from scmag_muon._feature_names import is_housekeeping
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    import pandas as pd
    from matplotlib.axes import Axes
    from mudata import MuData

_MAX_FOLD = 8.0
_MAX_LOG_P = 300.0


@_canvas.described
def volcano(
    mdata: MuData,
    *,
    group: str,
    reference: str = "rest",
    key: str = Keys.SCMAG,
    markers_key: str | None = None,
    max_p_adjusted: float = 0.05,
    min_fold_change: float = 1.0,
    min_share: float = 0.05,
    n_names: int = 8,
    housekeeping: bool = False,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Fold change and significance of every feature between two clusters, in each modality (paper, figure 8a, b).

    Parameters
    ----------
    mdata
        As ``scmag_muon.tl.markers(mdata, groups=[group], reference=reference)`` left it.
    group
        Cluster on the right.
    reference
        Cluster on the left, or ``"rest"``.
    key
        The ``key`` of that call.
    markers_key
        Its ``key_added``; ``None`` is the name that it takes by itself.
    max_p_adjusted
        Features with a larger adjusted p are grey.
    min_fold_change
        Features with a smaller absolute log2 fold change are grey.
    min_share
        Features that fewer cells of both clusters have are left out: their fold changes are noise.
    n_names
        Features to name on each side.
    housekeeping
        Name ribosomal and mitochondrial genes too.

    Returns
    -------
    The axes, one per modality. Triangles at the edge lie beyond it (fold change above 8, p below 1e-300).

    Raises
    ------
    KeyError
        Where the pair was not compared.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> table = smm.tl.markers(mdata, groupby="cell_type", groups=["type_0"], reference="type_1")
    >>> axes = smm.pl.volcano(mdata, group="type_0", reference="type_1")
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    check_number("max_p_adjusted", max_p_adjusted, above=0, high=1)
    check_number("min_fold_change", min_fold_change, low=0)
    check_number("min_share", min_share, low=0, high=1)
    check_number("n_names", n_names, integer=True, low=0)
    if group == reference:
        raise ValueError(f"`group` and `reference` are both {group!r}: give two groups.")
    pair = Keys.pair(key, group, reference)
    slot = markers_key or (Keys.markers(key) if reference == "rest" else pair)
    verb = f"scmag_muon.tl.markers(mdata, groups=[{group!r}], reference={reference!r})"
    found = _draw.record(mdata, slot, verb)
    table = found["table"]
    table = table[(table["cluster"].astype(str) == group) & table["p_adjusted"].notna()]
    if table.empty or str(found["params"]["reference"]) != reference:
        raise KeyError(f"mdata.uns[{slot!r}] does not compare {group!r} with {reference!r}. Run {verb}.")
    modalities = list(dict.fromkeys(table["modality"].astype(str)))
    axes = canvas.subplots(1, len(modalities), (5.2 * len(modalities), 4.6))[0]
    for ax, modality in zip(axes, modalities, strict=True):
        ranked = table[table["modality"].astype(str) == modality]
        rows = ranked[ranked[["share", "share_others"]].max(axis=1) >= min_share]
        _volcano(ax, rows, max_p_adjusted, min_fold_change, n_names, housekeeping=housekeeping)
        ax.set_title(
            f"{_draw.text(modality)}: {len(rows):,} of {len(ranked):,} features, in {min_share:.0%} of cells or more",
            loc="left",
            fontsize=10,
        )
    axes[0].set_ylabel("-log10 adjusted p (▲ beyond the axes)")
    axes[0].figure.supxlabel(
        f"log2 fold change: higher in {_draw.text(reference)}  ←  →  higher in {_draw.text(group)}", fontsize=10
    )
    return canvas.done(axes)


def _volcano(ax: Axes, rows: pd.DataFrame, max_p: float, min_fold: float, n_names: int, *, housekeeping: bool) -> None:
    fold = rows["log2_fold_change"].to_numpy(dtype=float)
    log_p = -np.log10(np.maximum(rows["p_adjusted"].to_numpy(dtype=float), 10**-_MAX_LOG_P))
    x = np.clip(fold, -_MAX_FOLD, _MAX_FOLD)
    beyond = (np.abs(fold) > _MAX_FOLD) | (log_p >= _MAX_LOG_P)
    good = (rows["p_adjusted"].to_numpy() <= max_p) & (np.abs(fold) >= min_fold)
    for chosen, color in (
        (~good, _colors.MISSING),
        (good & (fold > 0), _draw.ORANGE),
        (good & (fold < 0), _draw.BLUE),
    ):
        for marker, kind in (("o", ~beyond), ("^", beyond)):
            points = chosen & kind
            ax.scatter(x[points], log_p[points], s=10, c=color, marker=marker, linewidths=0, rasterized=True)
    ax.axhline(-np.log10(max_p), color=_draw.GREY, linestyle="--", linewidth=0.7)
    for edge in (-min_fold, min_fold):
        ax.axvline(edge, color=_draw.GREY, linestyle="--", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    widest = max(float(np.abs(x).max(initial=0)), min_fold) * 1.9
    ax.set_xlim(-widest, widest)
    top = max(float(log_p.max(initial=0)), -np.log10(max_p)) * 1.08
    ax.set_ylim(-0.02 * top, top)
    names = rows["feature"].astype(str).to_numpy()
    named = good if housekeeping else good & ~is_housekeeping(names)
    for side in (-1, 1):
        candidates = np.flatnonzero(named & (np.sign(fold) == side))
        best = candidates[np.argsort(-np.abs(rows["score"].to_numpy()[candidates]), kind="stable")][:n_names]
        _name_points(ax, x[best], log_p[best], names[best], side, top, widest)


def _name_points(ax: Axes, x: np.ndarray, y: np.ndarray, names: np.ndarray, side: int, top: float, edge: float) -> None:
    """Names in a column at the edge, each tied to its point, at heights that keep them apart."""
    order = np.argsort(-y, kind="stable")
    step = top / 18
    heights, ceiling = y.astype(float), np.inf
    for i in order:
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - step
    floor = 0.3 * step
    for i in order[::-1]:  # those pushed below the axis come up again, and push the others
        heights[i] = max(heights[i], floor)
        floor = heights[i] + step
    for i in order:
        ax.annotate(
            _draw.text(names[i], 20),
            (x[i], y[i]),
            xytext=(0.97 * side * edge, heights[i]),
            ha="right" if side > 0 else "left",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": _draw.GREY, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 1},
        )
