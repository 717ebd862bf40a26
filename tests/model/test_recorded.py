"""Steps that are recorded and replayed, with a stand-in for CUDA graphs; ``test_gpu.py`` has the graphs themselves."""

from __future__ import annotations

import contextlib
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from scmag_muon.model._recorded import RecordedSteps, can_record

if TYPE_CHECKING:
    from collections.abc import Iterator


class Graph:
    """Does the work again where its replay is asked for."""

    n_replays = 0

    def replay(self) -> None:
        type(self).n_replays += 1
        self.steps._values = self.steps.work(self.steps._held)


class Steps(RecordedSteps):
    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        Graph.steps = self
        return super().__call__(batch)


@pytest.fixture
def modes() -> list[Any]:
    """What was asked of CUDA in turn where a value is fetched."""
    return []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, modes: list[Any]) -> list[Graph]:
    graphs: list[Graph] = []

    @contextlib.contextmanager
    def recording(graph: Graph, **_: Any) -> Iterator[None]:
        graphs.append(graph)
        yield

    nothing = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(Graph, "n_replays", 0)
    return graphs


def test_steps_of_one_size_are_replayed_and_others_are_not(made: list[Graph]) -> None:
    steps = Steps(lambda batch: batch["x"].sum() + batch["y"].sum())
    sizes = [4, 4, 2, 4, 4, 4, 2, 4]
    for i, size in enumerate(sizes):
        batch = {"x": torch.full((size, 3), float(i)), "y": torch.ones(size)}
        assert steps(batch) == 3 * size * i + size
    assert len(made) == 1
    assert Graph.n_replays == 3  # of six whole ones, three are plain


def test_what_changed_is_recorded_anew(made: list[Graph]) -> None:
    factor = 1.0
    steps = Steps(lambda batch: factor * batch["x"].sum())
    for factor in (1.0, 2.0):
        steps.forget()
        for _ in range(5):
            assert steps({"x": torch.ones(4)}) == 4 * factor
    assert len(made) == 2
    steps.forget()
    assert steps({"x": torch.ones(7)}) == 14  # of another size


def test_the_minibatch_is_left_as_it_is(made: list[Graph]) -> None:
    steps = Steps(lambda batch: batch["x"].mul_(2).sum())
    batch = {"x": torch.ones(4)}
    for _ in range(5):
        steps(batch)
    assert torch.equal(batch["x"], torch.ones(4))


def test_work_that_waits_for_the_gpu_is_not_recorded(
    made: list[Graph], modes: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    done = []

    def work(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if modes and modes[-1] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        done.append(float(batch["x"].sum()))
        return batch["x"].sum()

    steps = Steps(work)
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        assert [float(steps({"x": torch.full((2,), float(i))})) for i in range(6)] == [2 * i for i in range(6)]
    assert done == [2 * i for i in range(6)]  # each once
    assert not made
    assert modes == ["error", 0]
    assert [record.getMessage().startswith("Training steps are not recorded") for record in caplog.records] == [True]
    steps.forget()  # another stage fetches as well
    for _ in range(5):
        steps({"x": torch.ones(2)})
    assert modes == ["error", 0]


def test_other_errors_of_the_work_are_raised(made: list[Graph], modes: list[Any]) -> None:
    def work(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if modes:
            raise RuntimeError("CUDA out of memory")
        return batch["x"]

    steps = Steps(work)
    steps({"x": torch.ones(2)})
    steps({"x": torch.ones(2)})
    with pytest.raises(RuntimeError, match="out of memory"):
        steps({"x": torch.ones(2)})
    assert modes == ["error", 0]


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": SimpleNamespace(root_device=torch.device("cpu"))},
        {"world_size": 2},
        {"precision": "bf16-mixed"},
        {"gradient_clip_val": 1.0},
        {"accumulate_grad_batches": 2},
    ],
)
def test_steps_that_do_more_or_lie_elsewhere_are_not_recorded(change: dict[str, Any]) -> None:
    plain = {
        "strategy": SimpleNamespace(root_device=torch.device("cuda")),
        "world_size": 1,
        "precision": "32-true",
        "gradient_clip_val": None,
        "accumulate_grad_batches": 1,
    }
    assert can_record(SimpleNamespace(**plain))
    assert not can_record(SimpleNamespace(**{**plain, **change}))
