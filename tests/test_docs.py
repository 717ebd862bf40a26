"""The pages of the docs name functions, arguments and messages that exist."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import scmag_muon as smm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    {*DOCS.glob("*.md"), *DOCS.glob("guides/*.md"), *DOCS.glob("troubleshooting/*.md"), *ROOT.glob("README.md")}
)

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the docs are not part of the installed package")


def python_blocks(text: str) -> list[str]:
    blocks = re.findall(r"^( *)```python\n(.*?)^\1```", text, flags=re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in blocks]


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def public(name: str) -> Any:
    found: Any = smm
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_calls_in_examples_fit_the_functions(page: Path) -> None:
    for block in python_blocks(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and dotted(node.func).startswith("smm."):
                keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(public(dotted(node.func))).bind(*node.args, **keywords)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_examples_fit_the_command_line(page: Path) -> None:
    from scmag_muon._cli._main import _parser

    for line in re.findall(r"(?:python -m scmag_muon|scmag-muon) (run|map|demo)(.*)", page.read_text(encoding="utf-8")):
        words = " ".join(line).partition("`")[0].split()
        if words[0] == "demo" or "-o" in words:
            _parser().parse_args(words)


def test_messages_in_troubleshooting_are_in_the_source() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "scmag_muon").rglob("*.py")))
    source = re.sub(r'"\s*\n\s*f?"', "", text)  # messages that go over several lines
    of_package = [page for page in DOCS.glob("troubleshooting/*.md") if page.stem != "other_packages"]
    own = "".join(page.read_text(encoding="utf-8") for page in of_package)
    messages = [m for heading in re.findall(r"^##+ (.*)", own, flags=re.M) for m in re.findall(r'"([^"]+)"', heading)]
    assert len(messages) > 50
    for message in messages:
        for part in filter(None, (part.strip() for part in message.split("…"))):
            assert part in source, message
