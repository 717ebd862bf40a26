"""Writes the pages of odd inputs of the docs from the table: ``python -m tests.odd.page``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.odd.rows import TABLE

if TYPE_CHECKING:
    from tests.odd.table import Row

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cells": ("Cells, names, modalities", ("Sizes", "Names of cells and features", "Modalities")),
    "counts": ("Counts", ("Values of counts", "Layers of counts", "Storage of counts")),
    "features": ("Features and batches", ("Features", "Batches")),
    "arguments": ("Arguments", ("Arguments of fitting", "Arguments of a run", "Names of results")),
    "clusters": ("After clustering", ("After clustering", "Trees of clusters", "Parts of a cluster")),
    "levels": (
        "Levels, names and health of clusters",
        ("Levels of clusters", "Names of clusters", "Health of clusters"),
    ),
    "queries": ("Queries and models", ("Queries onto a reference", "The model")),
    "pictures": ("Pictures, reports, scores, data sets", ("Pictures", "The report", "Scores", "Data sets")),
    "files": ("Files, command line, checkpoints", ("Files and the command line", "Checkpoints")),
}
"""Title and sections of each page."""

_HEAD = """\
# Odd inputs

What happens with data and arguments that are wrong or unusual. Each line of these pages is a test: the call is run as it stands
there, on {n} inputs in all.

- Where a call ends in an error, the MuData and all files are afterwards byte for byte as before. The fix, where one is named, was
  run, and the call then worked.
- Where a call works, counts and everything else that was there before are untouched.

In the calls, `model` was trained on the cells of `mdata`. If the first column does not say otherwise, `mdata` has 40 cells with 20
genes and 6 proteins. `short` stands for two epochs of training and one of clustering.

{pages}
[](troubleshooting.md) says more on each message. `tests/odd/` holds the tables, and `python -m tests.odd.page` writes these pages.

```{{toctree}}
:hidden:

{toctree}
```
"""


def pages() -> dict[str, str]:
    """The text of each page, by its path within the docs."""
    items = "".join(f"- [](odd_inputs/{name}.md): {', '.join(of).lower()}\n" for name, (_, of) in PAGES.items())
    toctree = "\n".join(f"odd_inputs/{name}" for name in PAGES)
    head = _HEAD.format(n=sum(map(len, TABLE.values())), pages=items, toctree=toctree)
    return {"odd_inputs.md": head, **{f"odd_inputs/{name}.md": _page(*each) for name, each in PAGES.items()}}


def _page(title: str, sections: tuple[str, ...]) -> str:
    parts = [f"# Odd inputs: {title[0].lower()}{title[1:]}\n\n[](../odd_inputs.md) says how to read this.\n"]
    for section in sections:
        lines = "\n".join(map(_line, TABLE[section]))
        parts.append(f"## {section}\n\n| input | call | outcome |\n|---|---|---|\n{lines}\n")
    return "\n".join(parts)


def _line(row: Row) -> str:
    outcome = row.outcome
    if row.error is not None:
        outcome = f"`{row.error.__name__}`: {outcome}"
    elif row.status:
        outcome = f"Exit status {row.status}: {outcome}"
    fix = f" Fix: {_code(row.fix)}." if row.fix else ""
    return f"| {_plain(row.given)} | {_code(row.call)} | {_plain(outcome)}{fix} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
