from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import SaveCheckpoint

import scmag_muon as smm
from scmag_muon.model import SCMAG, TrainingDivergedError

if TYPE_CHECKING:
    from mudata import MuData

SHORT: dict[str, Any] = {
    "max_epochs_pretrain": 2,
    "max_epochs": 1,
    "progress_bar": False,
    "accelerator": "cpu",
}


class AtEnd(Callback):
    """Do something at the end of the first epoch."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.act()


def fail() -> None:
    raise RuntimeError("of the user's callback")


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def model(citeseq: MuData) -> SCMAG:
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    return SCMAG(citeseq, 3)


def test_settings_of_torch_make_no_difference(citeseq: MuData, model: SCMAG) -> None:
    model.train(**SHORT)
    expected = model.get_latent_representation()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            other = SCMAG(citeseq, 3)
            other.train(**SHORT)
            latent = other.get_latent_representation()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(latent, expected)


@pytest.mark.parametrize(("act", "error"), [(fail, RuntimeError), (interrupt, KeyboardInterrupt)])
def test_a_training_that_ends_early_leaves_the_model_as_it_was(
    model: SCMAG, act: Any, error: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    model.train(**SHORT)
    latent, history = model.get_latent_representation(), model.training_history
    moments = {key: value["exp_avg"].clone() for key, value in model.optimizer_state_["state"].items()}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        model.train(**SHORT, callbacks=[AtEnd(act)])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not model.module.training
    np.testing.assert_array_equal(model.get_latent_representation(), latent)
    assert len(model.training_history) == len(history) == 3
    for key, value in moments.items():
        torch.testing.assert_close(model.optimizer_state_["state"][key]["exp_avg"], value, rtol=0, atol=0)
    assert "NameError" not in capfd.readouterr().out
    model.train(**SHORT)
    assert list(model.training_history.index) == list(range(len(model.training_history)))


def test_an_exploding_rate_is_named_and_nothing_is_written(citeseq: MuData) -> None:
    before = set(SCMAG._setup_adata_manager_store)
    with pytest.raises(TrainingDivergedError, match=r"diverged: .* in stage 1 \(reconstruction\).* rate of 1e\+30.*lr"):
        smm.tl.scmag(citeseq, n_clusters=3, plan_kwargs={"lr": 1e30}, **SHORT)
    assert not citeseq.obsm.keys() & {"X_scmag", "X_manifold"}
    assert set(SCMAG._setup_adata_manager_store) <= before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"plan_kwargs": {"patiance": 1}}, TypeError, "'patiance'. Did you mean 'patience'"),
        ({"plan_kwargs": {"n_epochs_kl_warmup": 1}}, TypeError, "set `kl_weight`"),
        ({"plan_kwargs": {"lr": float("nan")}}, ValueError, "`lr` must be a number at least 0"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer at least 1"),
        ({"max_epochs": 1.5}, TypeError, "`max_epochs` must be an integer"),
        ({"accelerator": "cup"}, ValueError, "Did you mean 'cpu'"),
        ({"early_stopping_monitor": "elbo"}, TypeError, "Stages end by themselves"),
        ({"callbacks": SaveCheckpoint(monitor="validation_loss")}, TypeError, "no SaveCheckpoint. .* call save"),
        ({"enable_checkpointing": True}, TypeError, "no enable_checkpointing=True. .* call save"),
        ({"checkpointing_monitor": "train_loss"}, TypeError, "no 'checkpointing_monitor'. .* call save"),
        ({"earlystopping": True}, TypeError, "SCMAG.train has no 'earlystopping'"),
    ],
)
def test_arguments_are_refused_by_name(model: SCMAG, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        model.train(**{**SHORT, **arguments})
