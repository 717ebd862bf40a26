from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open

import scmag_muon as smm
from scmag_muon.model import SCMAG, _checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mudata import MuData

RUN: dict[str, Any] = {
    "max_epochs_pretrain": 4,
    "max_epochs": 3,
    "batch_size": 32,
    "progress_bar": False,
    "accelerator": "cpu",
    "plan_kwargs": {"label_tolerance": 0.0, "patience": 50},
}
N_EPOCHS = 7


class Stopped(Exception):
    pass


class StopIn(Callback):
    """Fail in the middle of an epoch, counted from 0."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise Stopped


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    # two would mostly wait for each other with so few cells
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _state_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoint, "_SHARE_OF_TIME", np.inf)


@pytest.fixture(scope="module")
def fitted() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=40, n_prot=8, n_clusters=3, random_state=0)
    smm.pp.manifold_fit(mdata)
    return mdata


@pytest.fixture(scope="module")
def make_model(fitted: MuData) -> Callable[..., SCMAG]:
    def make(**arguments: Any) -> SCMAG:
        SCMAG.setup_mudata(fitted)
        return SCMAG(fitted, **{"n_clusters": 3, **arguments})

    return make


def outcome(model: SCMAG) -> dict[str, Any]:
    weights = {name: value.numpy().copy() for name, value in model.module.state_dict().items()}
    moments = {f"moment {i}": each["exp_avg_sq"].numpy() for i, each in model.optimizer_state_["state"].items()}
    return {**weights, **moments, "latent": model.get_latent_representation(kind="clustering")}


def assert_same(model: SCMAG, expected: SCMAG) -> None:
    now, wanted = outcome(model), outcome(expected)
    assert now.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(now[name], values, err_msg=name)
    pd.testing.assert_frame_equal(model.training_history, expected.training_history)
    assert model.converged_ == expected.converged_
    np.testing.assert_array_equal(model.get_cluster_assignments(), expected.get_cluster_assignments())


@pytest.fixture(scope="module")
def whole(make_model: Callable[..., SCMAG]) -> SCMAG:
    """A training that nothing stopped."""
    model = make_model()
    model.train(**RUN)
    assert model.training_history["stage"].tolist() == [1, 1, 2, 2, 3, 3, 3]
    return model


@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5, 6])
def test_a_training_that_was_stopped_goes_on_to_the_bit(
    make_model: Callable[..., SCMAG], whole: SCMAG, tmp_path: Path, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Stopped):
        make_model().train(**RUN, checkpoint=tmp_path, callbacks=[StopIn(epoch)])
    assert [each.name for each in tmp_path.iterdir()] == [_checkpoint.FILE]
    model = make_model()
    torch.manual_seed(99)  # what the process has drawn before is of no matter
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        model.train(**RUN, checkpoint=tmp_path)
    assert f"Resumed from the end of epoch {epoch}, in stage" in caplog.text
    assert_same(model, whole)


def test_a_training_may_be_stopped_twice(make_model: Callable[..., SCMAG], whole: SCMAG, tmp_path: Path) -> None:
    for epoch in (2, 5):
        with pytest.raises(Stopped):
            make_model().train(**RUN, checkpoint=tmp_path, callbacks=[StopIn(epoch)])
    model = make_model()
    model.train(**RUN, checkpoint=tmp_path)
    assert_same(model, whole)


def test_checkpoints_change_nothing_and_the_last_stays(
    make_model: Callable[..., SCMAG], whole: SCMAG, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        model = make_model()
        with caplog.at_level(logging.INFO, logger="scmag_muon"):
            model.train(**RUN, checkpoint=tmp_path / "new" / "folder")
        assert_same(model, whole)
    assert caplog.text.count(f"Resumed from the end of epoch {N_EPOCHS - 1}, in stage 3") == 1


def stopped(make_model: Callable[..., SCMAG], folder: Path, **arguments: Any) -> None:
    with pytest.raises(Stopped):
        make_model().train(**{**RUN, **arguments}, checkpoint=folder, callbacks=[StopIn(1)])


@pytest.mark.parametrize(
    ("changes", "model", "message"),
    [
        ({"random_state": 1}, {}, "`random_state` was 0 and is 1"),
        ({"batch_size": 64}, {}, "`batch_size` was 32 and is 64"),
        ({"max_epochs": 4}, {}, "`n_epochs_cluster` was 3 and is 4"),
        ({"initial_labels": np.arange(120) % 3}, {}, "the cells held out or the start of the clusters differ"),
        ({"train_size": 0.8}, {}, "the cells held out or the start"),
        ({}, {"random_state": 5}, "the network at the start differ"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(
    make_model: Callable[..., SCMAG], tmp_path: Path, changes: dict[str, Any], model: dict[str, Any], message: str
) -> None:
    stopped(make_model, tmp_path)
    before = (tmp_path / _checkpoint.FILE).read_bytes()
    with pytest.raises(ValueError, match=f"is of another run: .*{message}.*delete the file"):
        make_model(**model).train(**{**RUN, **changes}, checkpoint=tmp_path)
    assert (tmp_path / _checkpoint.FILE).read_bytes() == before


def test_other_cells_are_another_run_and_the_advice_works(
    make_model: Callable[..., SCMAG], fitted: MuData, tmp_path: Path
) -> None:
    stopped(make_model, tmp_path)
    other = smm.datasets.simulate_citeseq(n_obs=120, n_vars=40, n_prot=8, n_clusters=3, random_state=0)
    other["rna"].X = other["rna"].X.copy()
    other["rna"].X[0, 0] += 1
    for name in ("rna", "prot"):
        other[name].layers["manifold"] = fitted[name].layers["manifold"]
        other[name].var["manifold"], other[name].uns["manifold"] = (
            fitted[name].var["manifold"],
            fitted[name].uns["manifold"],
        )
    SCMAG.setup_mudata(other)
    model = SCMAG(other, n_clusters=3)
    with pytest.raises(ValueError, match="the cells, counts, fit or batches differ"):
        model.train(**RUN, checkpoint=tmp_path)
    (tmp_path / _checkpoint.FILE).unlink()
    model.train(**RUN, checkpoint=tmp_path)


def test_a_damaged_checkpoint_is_refused(make_model: Callable[..., SCMAG], tmp_path: Path) -> None:
    stopped(make_model, tmp_path)
    path = tmp_path / _checkpoint.FILE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 1
    for content in (b"", b"text", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(repr(str(path))) + " is damaged .*delete the file"):
            make_model().train(**RUN, checkpoint=tmp_path)


def test_folders_that_are_none(make_model: Callable[..., SCMAG], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of mine")
    for folder, error, message in (
        (tmp_path / "notes.txt", FileExistsError, "notes.txt' is a file"),
        (tmp_path / "notes.txt" / "below", FileExistsError, "notes.txt' is a file"),
        (tmp_path, FileExistsError, "holds 1 files that are no checkpoint, among them 'notes.txt'"),
        (7, TypeError, "path of a folder"),
    ):
        with pytest.raises(error, match=message):
            make_model().train(**RUN, checkpoint=folder)
    with pytest.raises(ValueError, match="set random_state=0"):
        make_model().train(**RUN, checkpoint=tmp_path / "new", random_state=None)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_serves_one_training_at_a_time(make_model: Callable[..., SCMAG], whole: SCMAG, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Second(Callback):
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 2:
                before = (folder / _checkpoint.FILE).read_bytes()
                with pytest.raises(BlockingIOError, match=r"Another training is under way with the checkpoint '.*run'"):
                    _checkpoint.check_folder(folder, 0)
                with pytest.raises(BlockingIOError, match="Another training"), _checkpoint.held(folder):
                    pass
                assert (folder / _checkpoint.FILE).read_bytes() == before

    model = make_model()
    model.train(**RUN, checkpoint=folder, callbacks=[Second()])
    assert_same(model, whole)
    assert [each.name for each in folder.iterdir()] == [_checkpoint.FILE]
    assert _checkpoint.check_folder(folder, 0) == folder


def test_the_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from scmag_muon.model import _checkpoint\n"
        "with _checkpoint.held(pathlib.Path(sys.argv[1])): print('now', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"now\n"
        with pytest.raises(BlockingIOError, match="Another training"):
            _checkpoint.check_folder(tmp_path, 0)
        os.kill(child.pid, signal.SIGKILL)
    assert (tmp_path / _checkpoint.LOCK).exists()
    assert _checkpoint.check_folder(tmp_path, 0) == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_for_a_training_that_failed_at_once_goes(tmp_path: Path) -> None:
    with pytest.raises(Stopped), _checkpoint.held(tmp_path / "run"):
        raise Stopped
    assert not (tmp_path / "run").exists()


def test_file_systems_without_locks_take_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(_checkpoint.FileLock, "acquire", refuse)
    with _checkpoint.held(tmp_path):
        pass
    assert "can't be kept from other processes (FileSystem does not appear to support flock)" in caplog.text


def test_another_number_of_threads_is_told(
    make_model: Callable[..., SCMAG], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(make_model, tmp_path)
    make_model().train(**RUN, checkpoint=tmp_path)
    assert "threads of torch" not in caplog.text
    torch.set_num_threads(2)
    try:
        make_model().train(**RUN, checkpoint=tmp_path)
    finally:
        torch.set_num_threads(1)
    assert "written with 1 threads of torch, and there are 2" in caplog.text
    assert "torch.set_num_threads(1) gives the same" in caplog.text


def test_a_full_disk_ends_no_training(
    make_model: Callable[..., SCMAG],
    whole: SCMAG,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    stopped(make_model, tmp_path)
    before = (tmp_path / _checkpoint.FILE).read_bytes()
    monkeypatch.setattr(_checkpoint, "save_file", full)
    model = make_model()
    model.train(**RUN, checkpoint=tmp_path)
    assert "could not be written: [Errno 28] No space left on device" in caplog.text
    assert_same(model, whole)
    assert (tmp_path / _checkpoint.FILE).read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [_checkpoint.FILE]


def test_states_are_written_as_seldom_as_they_are_dear(
    make_model: Callable[..., SCMAG], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(_checkpoint, "_SHARE_OF_TIME", 0.5)
    monkeypatch.setattr(_checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(_checkpoint, "save_file", lambda tensors, path, metadata: written.append(1) or path.touch())
    make_model().train(**RUN, checkpoint=tmp_path)
    # a look at the clock takes 10 seconds here, and so does writing: 20 must pass
    assert len(written) == 3


_CHILD = """
import sys, torch
torch.set_num_threads(1)
import scmag_muon as smm
from scmag_muon.model import _checkpoint
folder, where = sys.argv[1:]
_checkpoint._SHARE_OF_TIME = float("inf")
states = []
whole = _checkpoint.save_file
def save_file(*arguments, **others):
    states.append(1)
    if where == "between" and len(states) == 6:
        print("now", flush=True); sys.stdin.read()
    whole(*arguments, **others)
    if where == "writing" and len(states) == 3:
        print("now", flush=True); sys.stdin.read()
_checkpoint.save_file = save_file
mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=30, n_prot=8, n_clusters=3, random_state=0)
smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=3, progress_bar=False, accelerator="cpu",
    plan_kwargs={"label_tolerance": 0.0}, checkpoint=folder)
"""


@pytest.mark.parametrize("where", ["writing", "between"])
def test_a_run_that_was_killed_goes_on_to_the_bit(tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path), where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"now\n"
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    # the state, the draft that was being written, and the lock
    assert len(list(tmp_path.iterdir())) == 3
    with safe_open(tmp_path / _checkpoint.FILE, framework="pt") as file:
        assert file.metadata()["format_version"] == "1"
    labels, latents = [], []
    for checkpoint in (None, tmp_path):
        mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=30, n_prot=8, n_clusters=3, random_state=0)
        plan = {"label_tolerance": 0.0}
        arguments = {name: RUN[name] for name in ("max_epochs_pretrain", "max_epochs", "progress_bar", "accelerator")}
        with caplog.at_level(logging.INFO, logger="scmag_muon"):
            smm.tl.scmag(mdata, n_clusters=3, plan_kwargs=plan, checkpoint=checkpoint, **arguments)
        labels.append(mdata.obs["scmag"])
        latents.append(mdata.obsm["X_scmag"])
    epoch = {"writing": 2, "between": 5}[where]
    assert f"Resumed from the end of epoch {epoch}, in stage" in caplog.text
    pd.testing.assert_series_equal(*labels)
    np.testing.assert_array_equal(*latents)
    assert [each.name for each in tmp_path.iterdir()] == [_checkpoint.FILE]
