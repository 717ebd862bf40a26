"""A grid of dots with two meanings: colour and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from scmag_muon.pl import _draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from scmag_muon.pl._canvas import Canvas

_LARGEST = 11.0  # points across
_SHOWN = (0.25, 0.5, 1.0)


def dots(
    canvas: Canvas,
    rows: pd.DataFrame,
    *,
    across: str,
    down: str,
    columns: Sequence[str],
    index: Sequence[str],
    color: str,
    size: str,
    color_label: str,
    size_label: str,
    color_map: str,
    limits: tuple[float, float],
    title: str,
) -> Axes:
    """Draw a dot for each row; ``size`` is a share, 0 to 1."""
    place = {name: i for i, name in enumerate(columns)}, {name: i for i, name in enumerate(index)}
    x, y = rows[across].map(place[0]).to_numpy(), rows[down].map(place[1]).to_numpy()
    longest = max((len(_draw.text(name, 44)) for name in columns), default=0)
    width = max(2.9 + 0.25 * len(columns) + 0.07 * max((len(_draw.text(name, 44)) for name in index), default=0), 4.8)
    height = max(1.0 + 0.27 * len(index) + 0.075 * longest, 2.8)
    ax = canvas.axes((width, height))
    points = ax.scatter(
        x,
        y,
        s=(_LARGEST * np.sqrt(rows[size].to_numpy(dtype=float))) ** 2,
        c=rows[color].to_numpy(dtype=float),
        cmap=color_map,
        vmin=limits[0],
        vmax=limits[1],
        edgecolors=_draw.GREY,
        linewidths=0.3,
    )
    ax.set_xticks(range(len(columns)), [_draw.text(name, 44) for name in columns], rotation=90, fontsize=8)
    ax.set_yticks(range(len(index)), [_draw.text(name, 44) for name in index], fontsize=8)
    ax.set_xlim(-0.6, len(columns) - 0.4)
    ax.set_ylim(len(index) - 0.4, -0.6)
    ax.set_ylabel(down.replace("_", " "))
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_axisbelow(True)
    ax.grid(color="#EEEEEE", linewidth=0.6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            color=_draw.GREY,
            markersize=_LARGEST * np.sqrt(share),
            label=f"{share:.0%}",
        )
        for share in _SHOWN
    ]
    legend: dict[str, Any] = {"handles": handles, "title": size_label, "frameon": False}
    if canvas.ax is None:
        ax.figure.legend(loc="outside right upper", fontsize=8, title_fontsize=8, **legend)
    else:  # a figure of the user's may have no layout that finds room beside all axes
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, title_fontsize=8, **legend)
    bar = ax.figure.colorbar(points, ax=ax, shrink=0.6, aspect=15, anchor=(0, 0))
    bar.set_label(color_label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return canvas.done(ax)
