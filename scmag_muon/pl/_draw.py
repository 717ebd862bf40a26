"""What the pictures share: what the tools wrote, maps of cells, legends beside the data, names from the data."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import matplotlib.patheffects as path_effects
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys
from scmag_muon._made_from import check_current
from scmag_muon.pl._colors import COLORS, MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from mudata import MuData

logger = logging.getLogger(__name__)

BLUE, ORANGE, GREY = COLORS[0], COLORS[5], "#555555"
CONTINUOUS = "viridis"
DIVERGING = "PuOr_r"
_MAX_LEGEND = 24
_TOLD_BY_COLOR = 8
_NAME_SIZE = 0.06  # of the map's width
_ROWS_OF_LEGEND = 13


def coordinates(mdata: MuData, basis: str, key: str = Keys.SCMAG) -> np.ndarray:
    """A map of the cells, shape ``(n_obs, 2)``."""
    _mudata.check_mudata(mdata)
    if basis not in mdata.obsm:
        raise KeyError(
            f"No map mdata.obsm[{basis!r}]. Make one with scanpy.pp.neighbors(mdata, use_rep={Keys.latent(key)!r}) and "
            "scanpy.tl.umap(mdata), or name another with basis=."
        )
    if is_older_map(mdata, basis, key):
        logger.warning(
            "mdata.obsm[%r] was there before the run %r took the place of an earlier one, and may show that. Draw it anew with "
            "scanpy.pp.neighbors(mdata, use_rep=%r) and scanpy.tl.umap(mdata).",
            basis,
            key,
            Keys.latent(key),
        )
    return np.asarray(mdata.obsm[basis])[:, :2]


def is_older_map(mdata: MuData, basis: str, key: str) -> bool:
    """Whether a map was drawn from an earlier run of the same name, as far as can be told."""
    run = mdata.uns.get(key)
    older = run.get("older_maps", {}) if hasattr(run, "get") else {}
    return basis in older and str(older[basis]) == _fingerprint.of_rows(mdata.obsm[basis], mdata.obs_names)


def part_of_record(mdata: MuData, key: str, verb: str, part: str) -> Any:
    """What a tool wrote in ``mdata.uns``, whatever has changed since."""
    _mudata.check_mudata(mdata)
    if key not in mdata.uns or not hasattr(mdata.uns[key], "get") or part not in mdata.uns[key]:
        raise KeyError(f"No {part} in mdata.uns[{key!r}]. Run {verb}.")
    return mdata.uns[key][part]


def record(mdata: MuData, key: str, verb: str, part: str = "table") -> Any:
    """What a tool wrote in ``mdata.uns``; raises where it is of other clusters or values than those that are there."""
    part_of_record(mdata, key, verb, part)
    check_current(mdata, key, verb)
    return mdata.uns[key]


def bare(ax: Axes, title: str) -> None:
    """A map's axes have no units worth a tick."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize=10)


def point_size(n_obs: int) -> float:
    return float(np.clip(30000 / max(n_obs, 1), 1.5, 25))


def categories_on_map(
    ax: Axes,
    xy: np.ndarray,
    labels: pd.Series,
    title: str,
    *,
    colors: dict[str, Any],
    on_data: bool = True,
    legend: bool = True,
    numbered: bool = False,
) -> None:
    """Cells coloured by category: names at the middles of short-named groups, a legend beside the map for others.

    ``numbered`` writes numbers at the middles and in the legend where there are more categories than colours tell apart.
    """
    shown_as = labels.astype(object).where(labels.notna(), None)
    names = [str(name) for name in labels.cat.categories]
    shown = [colors[str(name)] if name is not None and not pd.isna(name) else MISSING for name in shown_as]
    # in a mixed order, so that no group lies on top of the others
    order = np.random.default_rng(0).permutation(len(xy))
    ax.scatter(
        xy[order, 0], xy[order, 1], c=[shown[i] for i in order], s=point_size(len(xy)), linewidths=0, rasterized=True
    )
    bare(ax, title)
    numbered = numbered and len(names) > _TOLD_BY_COLOR
    short = {name: str(i + 1) if numbered else name for i, name in enumerate(names)}
    if on_data or numbered:
        present = [name for name in names if (shown_as.astype(str) == name).any()]
        middles = np.array([middle(xy[(shown_as.astype(str) == name).to_numpy()]) for name in present])
        for name, place in zip(present, apart(middles, np.ptp(xy, axis=0)), strict=True):
            name_at(ax, place, short[name])
    if not on_data and legend:
        entries = [(f"{short[name]}  {text(name)}" if numbered else text(name), colors[name]) for name in names]
        legend_beside(ax, entries + ([("none", MISSING)] if shown_as.isna().any() else []))


def middle(places: np.ndarray) -> np.ndarray:
    """The place of a group that is nearest to its median, which may itself lie between two parts of the group."""
    offsets = places - np.median(places, axis=0)
    found: np.ndarray = places[int(np.argmin((offsets**2).sum(axis=1)))]
    return found


def apart(places: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Places of names, those that would lie on each other moved apart; ``span`` is the width and height of the map."""
    span = np.where(span > 0, span, 1)
    # names of the same place need a direction in which to part
    moved = places.reshape(-1, 2) / span + 1e-6 * np.arange(len(places))[:, None]
    for _ in range(100):
        gap = moved[:, None] - moved[None]
        distance = np.linalg.norm(gap, axis=-1) + np.eye(len(moved))
        lacking = np.maximum(_NAME_SIZE - distance, 0) / 2
        if not lacking.any():
            break
        moved = moved + (gap * (lacking / np.maximum(distance, 1e-9))[..., None]).sum(axis=1)
    return moved * span


def name_at(ax: Axes, place: np.ndarray, name: str) -> None:
    label = ax.text(
        place[0], place[1], text(name), ha="center", va="center", fontsize=9, fontweight="bold", color="black", zorder=5
    )
    label.set_path_effects([path_effects.withStroke(linewidth=2.5, foreground="white")])


def legend_beside(ax: Axes, entries: Sequence[tuple[str, Any]]) -> None:
    """A legend to the right of the axes, in columns; the first of very many categories only."""
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=color, label=name)
        for name, color in entries[:_MAX_LEGEND]
    ]
    if len(entries) > _MAX_LEGEND:
        handles.append(Line2D([], [], linestyle="", label=f"and {len(entries) - _MAX_LEGEND} more"))
    ax.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=8,
        ncols=math.ceil(len(handles) / _ROWS_OF_LEGEND),
        handletextpad=0.1,
        columnspacing=0.8,
    )


def values_on_map(
    ax: Axes, xy: np.ndarray, values: np.ndarray, title: str, *, unit: str | None = None, limits: Any = None
) -> None:
    """Cells coloured by value, the highest on top, with a bar beside the map; missing values grey, below."""
    missing = ~np.isfinite(values)
    order = np.argsort(np.where(missing, -np.inf, values), kind="stable")
    size = point_size(len(xy))
    if missing.any():
        ax.scatter(xy[missing, 0], xy[missing, 1], c=MISSING, s=size, linewidths=0, rasterized=True)
    order = order[~missing[order]]
    low, high = limits if limits is not None else (None, None)
    points = ax.scatter(
        xy[order, 0],
        xy[order, 1],
        c=values[order],
        s=size,
        cmap=CONTINUOUS,
        vmin=low,
        vmax=high,
        linewidths=0,
        rasterized=True,
    )
    bare(ax, title)
    bar = ax.figure.colorbar(points, ax=ax, shrink=0.7, aspect=18, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    if unit:
        bar.set_label(unit, fontsize=8)


def highest(values: np.ndarray) -> float:
    """Upper end of the colours: the 99th percentile, or the maximum where fewer cells have any."""
    known = values[np.isfinite(values)]
    return (float(np.quantile(known, 0.99)) or float(known.max()) or 1.0) if len(known) else 1.0


def text(name: Any, length: int = 28) -> str:
    """A name from the data as matplotlib draws it letter by letter: no formulas, no line breaks, no hidden labels, not too long."""
    shown = shorten(" ".join(str(name).split()), length) or '""'
    # a label that begins with an underscore gets no place in a legend
    return f"{' ' * shown.startswith('_')}{shown}".replace("$", r"\$")


def shorten(name: str, length: int = 28) -> str:
    """A long name without its middle, since names of subtypes differ at their ends."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[length // 2 + 1 - length :]}"
