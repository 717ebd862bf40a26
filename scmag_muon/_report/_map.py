"""A map of the cells that tells of the cell under the pointer.

It is a script of its own and no plotting library, which would add one to five megabytes to each report, and ask for rights that
the page's security policy withholds: only this script may run, known by its hash, whatever the names in the data hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from scmag_muon import _mudata, _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _colors, _draw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

MOST_CELLS = 20_000
_SPAN = 4095  # places across; a screen shows no more
_STOPS = 32  # of the colour map

SCRIPT = Path(__file__).with_name("map.js").read_text(encoding="utf-8")
POLICY = f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"

_FIGURE = """<figure id="map" hidden>
<div class="controls"><label>Colour by <select></select></label>
<button type="button" class="closer">Zoom in</button>
<button type="button" class="further">Zoom out</button>
<button type="button" class="whole">Whole map</button></div>
<div class="canvas"><canvas role="img" aria-label="{label}"></canvas><div class="hover" hidden></div></div>
<div class="legend"></div>
<figcaption>{caption}</figcaption></figure>
<noscript><p>This page shows an interactive map where scripts are allowed. The pictures need none.</p></noscript>
<script type="application/json" id="map-data">{data}</script>
<script>{script}</script>"""


def cell_map(mdata: MuData, key: str, columns: Mapping[str, str]) -> str:
    """The map as HTML, coloured by clusters, by further columns (with what they are called), by confidence and by counts."""
    rng = np.random.default_rng(0)
    # in a mixed order, so that no group lies on top of the others
    shown = rng.permutation(mdata.n_obs)[:MOST_CELLS]
    sample = "" if len(shown) == mdata.n_obs else f" {len(shown):,} of {mdata.n_obs:,} cells, drawn at random."
    caption = (
        f"Each point is a cell.{sample} Point at a cell, or touch it, to read what is known of it. Press a name below the map to see "
        "where its cells are. A double click zooms in, and the map can be dragged then."
    )
    label = f"Map of {len(shown):,} cells, coloured by cluster. The tables below hold the same figures."
    text = json.dumps(_data(mdata, key, columns, shown), separators=(",", ":"), ensure_ascii=True)
    # no "<" is left that could end the script
    return _FIGURE.format(
        label=html.escape(label),
        caption=html.escape(caption),
        data=text.replace("<", "\\u003c").replace("&", "\\u0026"),
        script=SCRIPT,
    )


def _data(mdata: MuData, key: str, columns: Mapping[str, str], shown: np.ndarray) -> dict[str, Any]:
    xy = np.asarray(mdata.obsm["X_umap"], dtype=float)[:, :2]
    low, span = np.nanmin(xy, axis=0), np.ptp(xy, axis=0)
    # a margin, so that no cell is cut in half
    places = np.rint((0.02 + 0.96 * (xy - low) / np.where(span > 0, span, 1)) * _SPAN).astype(int)[shown]
    clusters = _values.cluster_column(mdata, key)
    colors = _colors.of_column(mdata, key)
    parts = [_categories("cluster", clusters, colors, places, shown)]
    for column, name in columns.items():
        own = _colors.of_column(mdata, column, like=(clusters, colors), argument="labels")
        values = _values.cluster_column(mdata, column, argument="labels")
        parts.append(_categories(name, values, own, places, shown))
    if Keys.confidence(key) in mdata.obs:
        confidence = mdata.obs[Keys.confidence(key)].to_numpy(dtype=float)[shown]
        parts.append(_numbers("confidence", confidence.round(2), limits=(0, 1)))
    for name in _values.used_modalities(mdata, key):
        adata = mdata.mod[name]
        totals = np.asarray(_values.counts_in_use(mdata, key, name).sum(axis=1)).ravel()
        counts = pd.Series(totals, index=adata.obs_names).reindex(mdata.obs_names).to_numpy(dtype=float)[shown]
        parts.append(_numbers(f"counts of {name}", counts))
    ramp = [to_hex(color) for color in mpl.colormaps["viridis"](np.linspace(0, 1, _STOPS))]
    x, y = places.T.tolist()
    return {"x": x, "y": y, "span": _SPAN, "columns": parts, "ramp": ramp, "missing": _colors.MISSING}


def _categories(
    name: str, labels: pd.Series, colors: dict[str, Any], places: np.ndarray, shown: np.ndarray
) -> dict[str, Any]:
    codes = labels.cat.codes.to_numpy()[shown]
    levels = [str(level) for level in labels.cat.categories]
    inside = {code: places[codes == code] for code in range(len(levels))}
    middles = {code: _draw.middle(each) for code, each in inside.items() if len(each)}
    moved = _draw.apart(np.array(list(middles.values()), dtype=float), np.full(2, _SPAN)).round().tolist()
    named = dict(zip(middles, moved, strict=True))
    return {
        "name": str(name),
        "levels": levels,
        "colors": [to_hex(colors[level]) for level in levels],
        "middles": [named.get(code) for code in range(len(levels))],
        "values": [None if code < 0 else int(code) for code in codes],
    }


def _numbers(name: str, values: np.ndarray, *, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if limits is None:
        limits = (0, float(np.quantile(known, 0.99).round())) if len(known) else (0, 1)
    shown = [
        None if not np.isfinite(value) else int(value) if value == int(value) else float(value) for value in values
    ]
    return {"name": name, "values": shown, "low": limits[0], "high": limits[1]}


def is_drawable(mdata: MuData) -> bool:
    """Whether the map has places for its cells."""
    _mudata.check_mudata(mdata)
    return "X_umap" in mdata.obsm and bool(np.isfinite(np.asarray(mdata.obsm["X_umap"], dtype=float)[:, :2]).all())
