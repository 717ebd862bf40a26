"""Colours of groups: those the user gave, those that scanpy left, or those that tell groups apart and match known types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import is_color_like, to_hex
from scipy.optimize import linear_sum_assignment

from scmag_muon import _values
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from mudata import MuData

Palette = str | Sequence[Any] | Mapping[Any, Any]

# Okabe and Ito without black and yellow's glare, then Tol's muted; clusters are named on the map as well, because no
# eye tells twenty colours apart
COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#332288",
    "#999933",
    "#882255",
    "#44AA99",
    "#AA4499",
    "#DDCC77",
    "#117733",
    "#88CCEE",
    "#661100",
    "#6699CC",
    "#888888",
    "#AA4466",
    "#4477AA",
    "#228833",
)
MISSING = "#D3D3D3"
UNKNOWN = "unknown"
_COLOR_OF_UNKNOWN = COLORS[16]


def of_column(
    mdata: MuData,
    column: str,
    palette: Palette | None = None,
    *,
    like: tuple[pd.Series, dict[str, Any]] | None = None,
    argument: str = "key",
) -> dict[str, Any]:
    """A colour for each category of a column of cells.

    Without ``palette`` they are those in ``mdata.uns``, else those there of another column with the same labels, else, where groups
    and their colours are given as ``like``, those of the groups that share most cells.
    """
    labels = _values.cluster_column(mdata, column, argument=argument)
    names = [str(name) for name in labels.cat.categories]
    if palette is not None:
        return of_names(names, palette)
    found = _stored(mdata, column, names) or _of_same_labels(mdata, column, names)
    if found is None and like is not None:
        found = _matched(labels, *like)
    return found or of_names(names)


def of_names(categories: Sequence[Any], palette: Palette | None = None) -> dict[str, Any]:
    """A colour for each category; beyond twenty, colours come from a map and only names tell."""
    names = [str(category) for category in categories]
    if isinstance(palette, str):
        if palette not in mpl.colormaps:
            raise ValueError(f"palette={palette!r} is no colour map of matplotlib, as 'tab20' is one.")
        colors = mpl.colormaps[palette]
        n = colors.N if colors.N < 256 else 0  # maps of few colours are lists, and others are cut in equal parts
        found = [colors(i) for i in range(n)] if n >= len(names) else _of_map(colors, 0, 1, len(names))
        return dict(zip(names, found, strict=False))
    if palette is None:
        return dict(zip(names, _apart(len(names), taken=()), strict=True))
    if isinstance(palette, Mapping):
        by_name = {str(name): color for name, color in palette.items()}
        lacking = [name for name in names if name not in by_name]
        if lacking:
            raise ValueError(f"`palette` has no colour for {lacking[0]!r}. It must have one for each of {names}.")
        found = [by_name[name] for name in names]
    else:
        found = list(palette)
        if len(found) < len(names):
            raise ValueError(f"`palette` has {len(found)} colours for {len(names)} groups: {names}.")
    for name, color in zip(names, found, strict=False):
        if not is_color_like(color):
            raise ValueError(f"`palette` gives {name!r} {color!r}, which is no colour for matplotlib.")
    return dict(zip(names, found, strict=False))


def as_in(colors: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The colours of names that are among those of another column; others, as ``"unknown"``, are grey."""
    return {name: colors.get(name, _COLOR_OF_UNKNOWN) for name in names}


def _apart(n: int, *, taken: Sequence[Any]) -> list[Any]:
    """So many colours beside those that are taken."""
    others = {to_hex(color).upper() for color in taken}
    free = [color for color in COLORS if color not in others]
    return free[:n] if n <= len(free) else _of_map(mpl.colormaps["turbo"], 0.03, 0.97, n)


def _of_map(colors: mpl.colors.Colormap, low: float, high: float, n: int) -> list[Any]:
    return [tuple(color) for color in colors(np.linspace(low, high, n))]


def _stored(mdata: MuData, column: str, names: list[str]) -> dict[str, Any] | None:
    """The colours that scanpy or the user left in ``uns``, unless they are of other groups."""
    places = [(mdata.uns, column)]
    for modality, adata in mdata.mod.items():
        if str(column).startswith(f"{modality}:"):
            places.append((adata.uns, str(column).removeprefix(f"{modality}:")))
    for uns, name in places:
        colors = np.atleast_1d(np.asarray(uns.get(Keys.colors(name), ()), dtype=object)).tolist()
        if len(colors) == len(names) and all(is_color_like(color) for color in colors):
            return dict(zip(names, colors, strict=True))
    return None


def _of_same_labels(mdata: MuData, column: str, names: list[str]) -> dict[str, Any] | None:
    wanted = set(names) - {UNKNOWN}
    for other in mdata.obs.columns:
        if other == column or Keys.colors(other) not in mdata.uns or not wanted:
            continue
        labels = mdata.obs[other]
        if not isinstance(labels.dtype, pd.CategoricalDtype) or not wanted <= set(map(str, labels.cat.categories)):
            continue
        found = _stored(mdata, other, [str(name) for name in labels.cat.categories])
        if found is not None:
            return as_in(found, names)
    return None


def _matched(labels: pd.Series, groups: pd.Series, colors: dict[str, Any]) -> dict[str, Any]:
    """Each label has the colour of the group it shares most cells with, one label a group; others have colours of their own."""
    names = [str(name) for name in labels.cat.categories]
    shared = pd.crosstab(labels.astype(str).to_numpy(), groups.astype(str).to_numpy())
    shared = shared.reindex(index=[name for name in names if name != UNKNOWN], columns=list(colors), fill_value=0)
    found = {UNKNOWN: _COLOR_OF_UNKNOWN}
    for row, column in zip(*linear_sum_assignment(-shared.to_numpy()), strict=True):
        if shared.iat[row, column] > 0:
            found[str(shared.index[row])] = colors[str(shared.columns[column])]
    rest = [name for name in names if name not in found]
    found |= dict(zip(rest, _apart(len(rest), taken=list(colors.values())), strict=True))
    return {name: found[name] for name in names}
