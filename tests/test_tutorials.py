"""The tutorials as files; ``pytest --nbmake tutorials`` runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="the tutorials are not part of the installed package")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_says_what_it_reads_and_how_long_it_takes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for words in ("SCMAG_MUON_DATA", "SCMAG_MUON_TUTORIALS", "on two cores", "This notebook took"):
        assert words in text


def test_all_are_on_the_site() -> None:
    page = (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")
    assert all(f"tutorials/{path.stem}\n" in page for path in NOTEBOOKS)
