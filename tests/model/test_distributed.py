from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon.model import SCMAG
from scmag_muon.model._context import split_cells
from scmag_muon.model._data import ReadyDataSplitter, SharedMinibatches
from scmag_muon.model._distributed import strategy_of

from .ddp_script import made

if TYPE_CHECKING:
    from mudata import MuData

SCRIPT = Path(__file__).with_name("ddp_script.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes says of the run that they share."""
    folder = tmp_path_factory.mktemp("ddp")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, SCRIPT, folder], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Warning:" not in done.stderr.replace("] Warning:", "")  # PyTorch's own goes past Python's filters
    assert sorted(file.name for file in folder.iterdir()) == ["0.json", "1.json"]  # and no history of scvi-tools
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_processes_end_with_the_same_network_and_history(told: list[dict[str, Any]]) -> None:
    first, second = told
    assert first == second


def test_two_processes_find_the_clusters_of_one(told: list[dict[str, Any]]) -> None:
    alone, together = made(), told[0]
    assert adjusted_rand_score(alone["labels"], together["labels"]) >= 0.95
    assert together["held out"] == alone["held out"]
    assert together["stages"][0] == 1
    assert together["stages"][-1] == 3
    assert np.diff(together["stages"]).min() >= 0
    assert len(together["label change"]) == together["stages"].count(3)
    assert together["loss"][0] == pytest.approx(alone["loss"][0], rel=0.2)
    assert np.isfinite([*together["loss"], *together["validation loss"]]).all()
    assert together["validation loss"][together["stages"].index(3) - 1] < together["validation loss"][0]


@pytest.mark.parametrize("n_cells", [10, 11, 12])
@pytest.mark.parametrize("n_processes", [2, 3])
def test_processes_share_the_cells(n_cells: int, n_processes: int) -> None:
    cells = np.arange(100, 100 + n_cells)
    loaders = [
        SharedMinibatches(
            {"x": torch.arange(200)[:, None]},
            cells,
            2,
            shuffle=True,
            process=process,
            n_processes=n_processes,
            generator=torch.Generator().manual_seed(3),
        )
        for process in range(n_processes)
    ]
    orders = []
    for _ in range(2):
        batches = [list(loader) for loader in loaders]
        assert {len(of_one) for of_one in batches} == {len(loaders[0])}
        rows = [torch.cat([batch["x"] for batch in of_one]).ravel().numpy() for of_one in batches]
        assert {len(of_one) for of_one in rows} == {-(-n_cells // n_processes)}
        met = np.concatenate(rows)
        np.testing.assert_array_equal(np.unique(met), cells)
        orders.append(met)
    assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize(
    ("given", "devices", "num_nodes", "expected"),
    [
        (None, "auto", 1, "auto"),
        (None, 1, 1, "auto"),
        ("auto", 2, 1, "ddp_find_unused_parameters_true"),
        (None, [0, 1], 1, "ddp_find_unused_parameters_true"),
        (None, "0,1", 1, "ddp_find_unused_parameters_true"),
        (None, 1, 2, "ddp_find_unused_parameters_true"),
        ("ddp", "auto", 1, "ddp_find_unused_parameters_true"),
        ("fsdp", 2, 1, "fsdp"),
    ],
)
def test_strategy(given: Any, devices: Any, num_nodes: int, expected: str) -> None:
    assert strategy_of(given, devices, num_nodes) == expected


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook_find_unused_parameters_true"])
def test_strategies_that_leave_the_model_untrained_are_refused(citeseq: MuData, strategy: str) -> None:
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    with pytest.raises(ValueError, match=f"strategy='{strategy}' .* Take strategy=\"ddp\" in a script"):
        SCMAG(citeseq, 3).train(strategy=strategy, devices=2)


def test_checkpoints_are_of_one_device(citeseq: MuData, tmp_path: Path) -> None:
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    with pytest.raises(ValueError, match="`checkpoint` is for one device"):
        SCMAG(citeseq, 3).train(strategy="ddp", devices=2, checkpoint=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_arguments_of_the_run_do_not_go_to_the_trainer(citeseq: MuData) -> None:
    with pytest.raises(TypeError, match="must not hold 'batch_size'"):
        smm.tl.scmag(citeseq, trainer_kwargs={"batch_size": 3})
    with pytest.raises(TypeError, match="`trainer_kwargs` must map names to values"):
        smm.tl.scmag(citeseq, trainer_kwargs=["ddp"])


def test_loader_arguments_are_of_one_device(citeseq: MuData) -> None:
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    made_for = ReadyDataSplitter(
        SCMAG(citeseq, 3).adata_manager, external_indexing=split_cells(citeseq.n_obs, 0.8, 0), num_workers=2
    )
    made_for.trainer = SimpleNamespace(world_size=2, global_rank=0)
    with pytest.raises(ValueError, match="need one device: set devices=1"):
        made_for.setup()
