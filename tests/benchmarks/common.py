"""What several benchmarks need: which cells have a label, and how a table is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def known(labels: pd.Series) -> pd.Series:
    """The labels of the cells that have one."""
    return labels[labels.notna() & (labels != "unknown")]


def markdown(table: pd.DataFrame, index: str = "pipeline") -> str:
    """The table with its index, whose name is ``index``, as the first column."""
    lines = [
        [index, *map(str, table.columns)],
        *([str(i), *map(str, row)] for i, row in zip(table.index, table.to_numpy(), strict=True)),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
