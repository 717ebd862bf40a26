"""Figures, tables and the page around them, as one HTML text that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import struct
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pandas as pd

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1b1b1b; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { display: grid; grid-template-columns: minmax(0, 1fr); column-gap: 3rem; }
header, main, footer { margin: 0; padding: 0 clamp(1rem, 3vw, 4rem); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #c9c9c9; }
p { max-width: 46rem; }
a { color: #00508a; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; }
figure { margin: 1rem clamp(1rem, 3vw, 2.5rem) 1rem 0; display: inline-block; vertical-align: top; max-width: 100%; }
figcaption { max-width: 46rem; color: #404040; font-size: .92rem; }
.scroll { overflow-x: auto; }
.table { display: inline-block; vertical-align: top; max-width: 100%; margin-right: clamp(1rem, 3vw, 2.5rem); }
.scroll:focus-visible, a:focus-visible, button:focus-visible, select:focus-visible, .skip:focus { outline: 3px solid #00508a; outline-offset: 2px; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #404040; padding: .25rem 0; }
caption span { display: block; max-width: calc(100vw - 2rem); }
.narrow { display: none; }
.paste { max-width: 60rem; padding: .7rem 1rem; background: #f5f7f9; white-space: pre-line; }
#map { display: block; margin-right: 0; }
#map[hidden], .hover[hidden] { display: none; }
.canvas { position: relative; border: 1px solid #c9c9c9; }
canvas { display: block; width: 100%; height: min(38rem, 75vw); min-height: 18rem; cursor: crosshair; touch-action: pan-y; }
.hover { position: absolute; pointer-events: none; background: #fff; border: 1px solid #767676; border-radius: .25rem;
  padding: .3rem .6rem; font-size: .85rem; line-height: 1.35; max-width: 60%; overflow-wrap: anywhere; }
.controls, .legend { display: flex; flex-wrap: wrap; gap: .3rem .6rem; align-items: center; margin: .4rem 0; font-size: .9rem; }
button, select { font: inherit; color: inherit; background: #fff; border: 1px solid #767676; border-radius: .25rem; padding: .1rem .5rem; }
.legend button { border-color: transparent; padding: .1rem .3rem; overflow-wrap: anywhere; text-align: left; }
.legend button[aria-pressed=true] { border-color: #1b1b1b; }
.legend button span { display: inline-block; width: .75rem; height: .75rem; border-radius: 50%; margin-right: .35rem; }
.ramp { display: inline-block; width: 12rem; height: .75rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #dcdcdc; vertical-align: top; }
thead th { border-bottom: 2px solid #767676; vertical-align: bottom; }
.warning { border-left: .35rem solid #b04a00; background: #fff5ec; padding: .5rem .9rem; margin: .5rem 0; max-width: 46rem; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: #fff; padding: .3rem; }
footer { margin-top: 3rem; padding-bottom: 2rem; color: #404040; font-size: .9rem; }
@media (min-width: 64rem) {
  main { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  main > section { grid-column: 1 / -1; }
  main > .half { grid-column: auto; }
}
@media (max-width: 40rem) { .narrow { display: block; } .wide table { width: 62rem; } .wide img { max-width: none; width: 44rem; } h1 { font-size: 1.4rem; } }
@media print { nav, .skip, #map, .download { display: none; } figure { break-inside: avoid; } }
"""

_HALF = ' class="half"'
_WIDE = 5  # columns
_DPI = 90

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the contents</a>
<header>
<h1>{title}</h1>
<p>{subtitle}</p>
<p class="narrow">Wide tables and figures scroll sideways.</p>
<nav aria-label="Sections"><ul>
{links}
</ul></nav>
</header>
<main id="main">
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def page(
    title: str,
    subtitle: str,
    sections: Iterable[tuple[str, str, str]],
    footer: str,
    *,
    policy: str,
    narrow: Collection[str],
) -> str:
    """A page of sections, each a name for links, a heading and its HTML.

    ``policy`` says which scripts may run; sections that are ``narrow`` lie in pairs on a wide screen.
    """
    sections = list(sections)
    links = "\n".join(f'<li><a href="#{name}">{html.escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{name}"{_HALF * (name in narrow)}>\n<h2 id="{name}">{html.escape(heading)}</h2>\n{inner}\n</section>'
        for name, heading, inner in sections
    )
    return _PAGE.format(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        style=_STYLE,
        policy=policy,
        links=links,
        sections=body,
        footer=html.escape(footer),
    )


def figure(drawn: Any, *, alt: str, caption: str) -> str:
    """A picture of :mod:`scmag_muon.pl`, embedded; wide ones scroll sideways on a phone rather than shrink to dust."""
    ax = drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn
    canvas = ax.get_figure(root=True)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.1)
    plt.close(canvas)
    # a PNG file says its width and height after sixteen bytes
    width, height = struct.unpack(">II", buffer.getvalue()[16:24])
    data = base64.b64encode(buffer.getvalue()).decode()
    wide = " wide" if width > 600 else ""
    alt = html.escape(alt, quote=True)
    return (
        f'<figure><div class="scroll{wide}" tabindex="0" role="group" aria-label="{alt}">'
        f'<img src="data:image/png;base64,{data}" alt="{alt}" width="{width}" height="{height}"></div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def table(frame: pd.DataFrame, *, caption: str) -> str:
    """A table with a caption; the index is the heading of each row."""
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in [frame.index.name or "", *frame.columns])
    rows = []
    for name, values in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = "".join(f"<td>{_text(value)}</td>" for value in values)
        rows.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>')
    caption = html.escape(caption)
    wide = " wide" * (frame.shape[1] >= _WIDE)
    return (
        f'<div class="scroll table{wide}" tabindex="0" role="group" aria-label="{caption}"><table><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def download(frame: pd.DataFrame, *, file: str, text: str) -> str:
    """A link that saves the table as a CSV file, which the page holds."""
    data = base64.b64encode(frame.to_csv(float_format="%.5g").encode("utf-8", errors="replace")).decode()
    name = html.escape(file, quote=True)
    return (
        f'<p class="download"><a download="{name}" href="data:text/csv;charset=utf-8;base64,{data}">{html.escape(text)}</a> '
        f"({len(frame):,} rows)</p>"
    )


def to_paste(text: str) -> str:
    """Text that a reader selects and copies."""
    return f'<p class="paste">{html.escape(text)}</p>'


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def warnings(messages: Sequence[str]) -> str:
    return "\n".join(f'<p class="warning"><strong>Warning:</strong> {html.escape(message)}</p>' for message in messages)


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return "–"
        if abs(float(value)) >= 999.5:
            return f"{value:,.0f}"
        return "&lt; 0.001" if 0 < value < 0.0005 else f"{value:.3g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return f"{value:,}"
    return html.escape(str(value))
