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
    from collections.abc import Iterable, Sequence

    import pandas as pd

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1b1b1b; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 72rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #c9c9c9; }
p { max-width: 46rem; }
a { color: #00508a; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; }
figure { margin: 1rem 0; }
figcaption { max-width: 46rem; color: #404040; font-size: .92rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible, a:focus-visible, .skip:focus { outline: 3px solid #00508a; outline-offset: 2px; }
img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #404040; padding: .25rem 0; }
caption span { display: block; max-width: calc(100vw - 2rem); }
.narrow { display: none; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #dcdcdc; vertical-align: top; }
thead th { border-bottom: 2px solid #767676; white-space: nowrap; }
.warning { border-left: .35rem solid #b04a00; background: #fff5ec; padding: .5rem .9rem; margin: .5rem 0; max-width: 46rem; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: #fff; padding: .3rem; }
footer { margin-top: 3rem; padding-bottom: 2rem; color: #404040; font-size: .9rem; }
@media (max-width: 40rem) { .narrow { display: block; } .wide img { max-width: none; width: 44rem; } h1 { font-size: 1.4rem; } }
@media print { nav, .skip { display: none; } figure { break-inside: avoid; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
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


def page(title: str, subtitle: str, sections: Iterable[tuple[str, str, str]], footer: str) -> str:
    """A page of sections, each a name for links, a heading and its HTML."""
    sections = list(sections)
    links = "\n".join(f'<li><a href="#{name}">{html.escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{html.escape(heading)}</h2>\n{inner}\n</section>'
        for name, heading, inner in sections
    )
    return _PAGE.format(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        style=_STYLE,
        links=links,
        sections=body,
        footer=html.escape(footer),
    )


def figure(drawn: Any, *, alt: str, caption: str, dpi: int = 90) -> str:
    """A picture of :mod:`scmag_muon.pl`, embedded; wide ones scroll sideways on a phone rather than shrink to dust."""
    ax = drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn
    canvas = ax.get_figure(root=True)
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.1)
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
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{caption}"><table><caption><span>{caption}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def warnings(messages: Sequence[str]) -> str:
    return "\n".join(f'<p class="warning"><strong>Warning:</strong> {html.escape(message)}</p>' for message in messages)


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return "–"
        return "&lt; 0.001" if 0 < value < 0.0005 else f"{value:.3g}"
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return f"{value:,}"
    return html.escape(str(value))
