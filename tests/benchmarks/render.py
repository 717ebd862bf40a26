"""Tables in Markdown: figures as the docs write them, and marks at rows that earlier code gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import results

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE = "–"
_NOTE_ALL = "An earlier version of the code was measured."
_NOTE_SOME = "Rows with * are of an earlier version of the code."
_DECIMALS = 3
_SIGNIFICANT = 100


def cell(row: dict[str, Any] | None, measure: str, *, clusters: bool = False) -> str:
    if row is None or row.get(measure) is None:
        return NONE
    sd = row.get(f"{measure} sd")
    text = number(row[measure]) + (f" ± {number(sd)}" if sd is not None else "")
    return f"{text} ({row['clusters'].replace('-', '–')})" if clusters and row["clusters"] else text


def seconds(text: str) -> str:
    value = float(text.split(" ")[0])
    return f"{value:,.0f} s" if value >= _SIGNIFICANT // 10 else f"{value:.1f} s"


def number(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, int | str):
        return str(value)
    text = f"{abs(value):.{_DECIMALS}f}" if abs(value) < _SIGNIFICANT else f"{abs(value):,.0f}"
    return ("−" if value < 0 else "") + (text[1:] if text.startswith("0.") else text)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], measured: Sequence[str], command: str) -> str:
    """With the command that makes it, and marks at rows of earlier code."""
    if not rows:
        return f"No run is kept yet. `{command}` makes them."
    earlier = [when == results.EARLIER for when in measured]
    if any(earlier) and not all(earlier):
        rows = [[f"{row[0]} *" if old else row[0], *row[1:]] for row, old in zip(rows, earlier, strict=True)]
    note = _NOTE_ALL if all(earlier) else _NOTE_SOME if any(earlier) else ""
    return f"{lines(columns, rows)}\n\n`{command}`\n{note}".rstrip()


def lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [columns, ["---"] * len(columns), *([number(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
