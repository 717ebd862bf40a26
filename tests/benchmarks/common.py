"""What several benchmarks need: results that are kept, which cells have a label, and how a table is printed."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scmag_muon

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def kept(
    folder: Path,
    file: Path,
    what: str,
    settings: dict[str, Any],
    compute: Callable[[], dict[str, Any]],
    *,
    ours: bool = True,
) -> dict[str, Any]:
    """The result of ``compute``, which is not called again for the same data, settings and, where it is of ours, code."""
    code = code_hash() if ours else None
    identity = json.dumps([hashlib.sha256(file.read_bytes()).hexdigest(), what, settings, code], sort_keys=True)
    path = folder / f"{file.stem}-{what.replace(' ', '_')}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        path.write_text(json.dumps(compute()))
    return json.loads(path.read_text())


def code_hash() -> str:
    """Changes with the package's code, not with its comments and docstrings, so that no stale result of ours stands."""
    root = Path(scmag_muon.__file__).parent
    digest = hashlib.sha256()
    parts = (
        p
        for part in ("_mudata", "pp", "tl", "model", "manifold", "metrics", "transfer")
        for p in (root / part).rglob("*.py")
    )
    for path in (root / "_assays.py", *sorted(parts)):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


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
