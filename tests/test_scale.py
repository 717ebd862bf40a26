"""The benchmark of many cells, with few."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_scale", FOLDER / "scale.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    small = {"rna": (80, *module.ASSAYS["rna"][1:]), "prot": (12, *module.ASSAYS["prot"][1:])}
    monkeypatch.setattr(module, "ASSAYS", small)
    monkeypatch.setattr(module, "BLOCK", 70)
    monkeypatch.setattr(module, "TYPES", 3)
    logger = logging.getLogger("scmag_muon")
    level = logger.level
    yield module
    logger.setLevel(level)  # the benchmark makes it quiet


def test_cells_are_written_block_by_block(scale: ModuleType, tmp_path: Path) -> None:
    file = scale.simulated(tmp_path / "cells.h5mu", 300)
    mdata = mudata.read_h5mu(file)
    types = mdata.obs["cell_type"].cat.codes.to_numpy()
    for name, n_features in (("rna", 80), ("prot", 12)):
        expected = [scale.drawn(name, types[start : start + 70], start).toarray() for start in range(0, 300, 70)]
        assert mdata[name].shape == (300, n_features)
        np.testing.assert_array_equal(mdata[name].X.toarray(), np.vstack(expected))
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5mu"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_measured(scale: ModuleType, tmp_path: Path) -> None:
    file = scale.simulated(tmp_path / "cells.h5mu", 300)
    before = file.read_bytes()
    found = scale.measured(file, 2, 1)
    assert found["recall"] == 1  # of few cells the search is exact
    assert found["ARI"] > 0.2  # by chance 0
    assert found["epochs"] == 3
    assert 0 < found["peak of fit GB"] <= found["peak GB"]
    assert file.read_bytes() == before


@pytest.mark.filterwarnings("ignore")
def test_the_fit_alone_is_measured(scale: ModuleType, tmp_path: Path) -> None:
    found = scale.measured(scale.simulated(tmp_path / "cells.h5mu", 300), None, None, fit_only=True)
    assert found["recall"] == 1
    assert "ARI" not in found
    assert found["fit s"] <= found["s"]


def test_results_are_kept_and_put_into_the_table(
    scale: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def in_child(file: Path, options: list[str]) -> dict[str, float]:
        asked.append((file.name, options))
        return {"s": 12.345, "peak GB": 0.5}

    monkeypatch.setattr(scale, "in_child", in_child)
    monkeypatch.setattr(scale, "simulated", lambda file, n_cells: file)
    table = tmp_path / "table.json"
    command = ["scale.py", "--cells", "20", "--epochs", "4", "2", "--output", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(table)])
    for _ in range(2):
        scale.main()
    assert asked == [("20.h5mu", ["--epochs", "4", "2"])]
    (row,) = scale.results.records(table)
    assert (row["cells"], row["what"]) == ("20", "scmag_muon (--epochs 4 2)")
    assert (row["s"], row["peak GB"], row["ARI"]) == ("12.3", "0.5", None)
