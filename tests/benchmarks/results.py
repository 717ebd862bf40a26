"""Results of the benchmarks as small JSON files: a list of columns, and a row a line. ``tables.py`` makes the docs' tables of them."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = Path(__file__).parent / "results"
EARLIER = "earlier"
"""What stands in ``measured`` where the runs were made with an earlier version of the code."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def records(path: Path) -> list[dict[str, Any]]:
    """Each row as a dictionary, with ``measured``."""
    table = read(path)
    return [dict(zip([*table["columns"], "measured"], row, strict=True)) for row in table["rows"]]


def merge(path: Path, rows: Sequence[Mapping[str, Any]], *, command: str, n_keys: int) -> None:
    """Put rows into the file: each replaces the one that has the same first ``n_keys`` columns, or comes last.

    Columns that the file has and a row has not are left empty.
    """
    table = read(path) if path.exists() else {"command": command, "columns": list(rows[0]), "rows": []}
    table["command"] = command
    table["columns"] += [name for name in rows[0] if name not in table["columns"]]
    width = len(table["columns"])
    by_key = {
        tuple(row[:n_keys]): [*row[:-1], *[None] * (width - len(row) + 1), row[-1]] for row in table["rows"]
    }  # `measured` stays last
    today = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    for row in rows:
        values = [_plain(row.get(name)) for name in table["columns"]]
        by_key[tuple(values[:n_keys])] = [*values, today]
    table["rows"] = list(by_key.values())
    write(path, table)


def write(path: Path, table: Mapping[str, Any]) -> None:
    """One row a line, so that a changed figure is a changed line."""
    head = {key: value for key, value in table.items() if key != "rows"}
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in table["rows"])
    text = json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}")
    columns = json.dumps(table["columns"], indent=4, ensure_ascii=False).replace("\n]", "\n  ]")
    text = text.replace(columns, json.dumps(table["columns"], ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{text},\n  "rows": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value
