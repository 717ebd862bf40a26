"""Writes ``docs/odd_inputs.md`` from the table: ``python -m tests.odd.page``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.odd.rows import TABLE

if TYPE_CHECKING:
    from tests.odd.table import Row

PAGE = Path(__file__).parents[2] / "docs" / "odd_inputs.md"

_HEAD = """\
# Odd inputs

What happens with data and arguments that are wrong or unusual. Each line is a test: the call is run as it stands here, on
{n} inputs in all. Where it ends in an error, the MuData and all files are afterwards byte for byte as before, and the fix, where one is
named, was run and the call then worked. Where it works, counts and everything else that was there before are untouched.

In the calls, `model` was trained on the cells of `mdata`, and `mdata` has 40 cells with 20 genes and 6 proteins unless the first column says otherwise, and `short` stands for two epochs of training
and one of clustering. `tests/odd/` holds the table, and `python -m tests.odd.page` writes this page from it.
[](troubleshooting.md) says more on each message.
"""


def page() -> str:
    """The page as text."""
    parts = [_HEAD.format(n=sum(map(len, TABLE.values())))]
    for section, rows in TABLE.items():
        parts.append(
            f"## {section}\n\n| input | call | outcome |\n|---|---|---|\n" + "\n".join(map(_line, rows)) + "\n"
        )
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
    PAGE.write_text(page(), encoding="utf-8")
