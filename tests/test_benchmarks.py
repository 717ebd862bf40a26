"""Benchmarks are run by hand; that they can be imported is tested here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
FILES = sorted(FOLDER.glob("*.py"))


@pytest.mark.filterwarnings("ignore")  # of the peers' packages
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_benchmark_is_imported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent.parent))
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).startswith(("scmag_muon", "common")):
            raise
        pytest.skip(f"needs {error.name}")
