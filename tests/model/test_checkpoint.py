from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
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
    from collections.abc import Callable
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


@pytest.mark.parametrize("epoch", range(1, N_EPOCHS))
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
