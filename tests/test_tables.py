"""Tables of README and docs are those of the stored results."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "benchmarks"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
WITH_TABLES = [page for page in PAGES if page.exists() and "<!-- table: " in page.read_text(encoding="utf-8")]

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the docs are not part of the installed package")


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = module("results")
    monkeypatch.setitem(sys.modules, "results", found)
    return found


@pytest.fixture
def render(results: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = module("render")
    monkeypatch.setitem(sys.modules, "render", found)
    return found


@pytest.fixture
def tables(render: ModuleType) -> ModuleType:
    return module("tables")


@pytest.mark.parametrize("page", WITH_TABLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_results(page: Path, tables: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- table: ") == text.count("<!-- end table -->")
    assert tables.filled(text) == text, "run python tests/benchmarks/tables.py"


def test_the_picture_is_of_the_results(tables: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tables", tables)
    picture = module("quality_picture")
    values = picture.drawn()
    with Image.open(picture.PICTURE) as stored:
        assert stored.info["Description"] == picture.digest(values), "run python tests/benchmarks/tables.py"
    values["mean"]["scmag_muon"] = (0.1, 0.0)
    picture.draw(values, tmp_path / "other.png")
    with Image.open(tmp_path / "other.png") as other:
        assert other.info["Description"] == picture.digest(values) != picture.digest(picture.drawn())


def test_each_results_file_is_shown(tables: ModuleType) -> None:
    shown = set(re.findall(r"<!-- table: (\S+) -->", "".join(page.read_text(encoding="utf-8") for page in WITH_TABLES)))
    files = {path.stem for path in (FOLDER / "results").glob("*.json")}
    assert shown <= files | set(tables.VIEWS)
    assert files - shown <= {"quality", "quality_types", "queries"}  # shown by views
    assert set(tables.VIEWS) <= shown


def test_a_changed_figure_changes_its_tables(tables: ModuleType, results: ModuleType, tmp_path: Path) -> None:
    for path in (FOLDER / "results").glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    results.FOLDER = tmp_path
    before = {name: tables.table(name) for name in ("quality_ari", "quality_summary", "three_numbers", "transforms")}
    quality = results.read(tmp_path / "quality.json")
    quality["rows"][0][quality["columns"].index("ARI")] = 0.123
    results.write(tmp_path / "quality.json", quality)
    after = {name: tables.table(name) for name in before}
    assert ".123" in after["quality_ari"]
    assert [name for name in before if before[name] != after[name]] == [
        "quality_ari",
        "quality_summary",
        "three_numbers",
    ]


def row(**values: Any) -> dict[str, Any]:
    return {"set": "a", "method": "x", "ARI": 0.5, **values}


def test_merging_replaces_rows_of_the_same_key_and_keeps_others(results: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kept.json"
    results.merge(path, [row(), row(method="y")], command="one", n_keys=2)
    results.merge(path, [row(ARI=0.61239, F1=0.4), row(method="z", ARI=float("nan"))], command="two", n_keys=2)
    kept = [{key: value for key, value in r.items() if key != "measured"} for r in results.records(path)]
    assert kept == [row(ARI=0.6124, F1=0.4), row(method="y", F1=None), row(method="z", ARI=None, F1=None)]
    assert results.read(path)["command"] == "two"
    assert len(path.read_text().splitlines()) == 4 + 3 + 2
    json.loads(path.read_text())


def test_rows_of_earlier_code_are_marked(render: ModuleType) -> None:
    def made(*measured: str) -> str:
        return render.table(["method", "ARI"], [["x", 0.5], ["y", -0.25]][: len(measured)], measured, "run")

    assert made("2026-01-01", "earlier") == (
        "| method | ARI |\n| --- | --- |\n| x | .500 |\n| y * | −.250 |\n\n`run`\n"
        "Rows with * are of an earlier version of the code."
    )
    assert made("earlier").endswith("`run`\nAn earlier version of the code was measured.")
    assert made("2026-01-01").endswith("`run`")
    assert made().startswith("No run is kept yet")
