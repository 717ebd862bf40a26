"""Files that repeat what pyproject.toml says agree with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
CONDA_NAMES = {"igraph": "python-igraph", "matplotlib": "matplotlib-base", "torch": "pytorch"}

pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason="needs the checkout")


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(path: Path) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_versions_agree(project: dict[str, Any]) -> None:
    assert read_yaml(GITHUB / "CITATION.cff")["version"] == project["version"]
    assert read_yaml(GITHUB / "conda" / "recipe.yaml")["context"]["version"] == project["version"]


def test_conda_recipe_requires_the_same(project: dict[str, Any]) -> None:
    recipe = read_yaml(GITHUB / "conda" / "recipe.yaml")
    ours = {}
    for requirement in project["dependencies"]:
        # a noarch recipe knows no environment markers: bounds for one Python hold for all
        name, bounds = re.fullmatch(r"([\w-]+)([^;]*)(?:;.*)?", requirement).groups()
        ours[CONDA_NAMES.get(name, name)] = set(bounds.split(","))
    theirs = {}
    for requirement in recipe["requirements"]["run"]:
        name, bounds = requirement.split(" ", 1)
        theirs[name] = set(bounds.split(","))
    assert theirs.pop("python") == {">=${{ python_min }}"}
    assert project["requires-python"] == f">={recipe['context']['python_min']}"
    assert theirs == ours


def test_ecosystem_entry(project: dict[str, Any]) -> None:
    entry = read_yaml(GITHUB / "ecosystem" / "meta.yaml")
    assert entry["install"]["pypi"] == project["name"]
    assert entry["license"] == project["license"]
    assert entry["project_home"] == project["urls"]["Homepage"]
    assert entry["documentation_home"] == project["urls"]["Documentation"]


def test_messages_and_pages_install_what_the_extras_name(project: dict[str, Any]) -> None:
    listed = {requirement for extra in project["optional-dependencies"].values() for requirement in extra}
    files = [*(ROOT / "scmag_muon").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    named = set()
    for path in files:
        for words in re.findall(r"pip install((?: '[^']+')+)", path.read_text(encoding="utf-8")):
            named |= set(re.findall(r"'([^']+)'", words))
    assert {name for name in named if not name.startswith("./scmag-muon[")} <= listed
    assert {"decoupler>=2", "gseapy>=1.1"} <= named


@pytest.mark.parametrize("path", sorted((GITHUB / "workflows").glob("*.yaml")), ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for used in re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8")):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used[0]), used
        assert re.fullmatch(r" # v[\d.]+", used[1]), used
