from __future__ import annotations

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "equations.md"
EQUATIONS = set(range(1, 34))


def rows() -> list[list[str]]:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the docs are not part of the installed package")


def test_functions_of_the_table_exist() -> None:
    for _, function, _, _ in rows():
        assert callable(pkgutil.resolve_name(function.strip("`")))


def test_tests_of_the_table_exist() -> None:
    for _, _, test, _ in rows():
        file, name = test.strip("`").split("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


def test_every_equation_of_the_method_has_a_row() -> None:
    covered: set[int] = set()
    for equation, *_ in rows():
        for first, last in re.findall(r"(?<![.\d])(\d+)(?:-(\d+))?(?![.\d])", equation):
            covered |= set(range(int(first), int(last or first) + 1))
    assert covered >= EQUATIONS
