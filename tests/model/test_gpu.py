"""On a GPU the network is the one that it is on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon.model._data import ReadyDataSplitter
from scmag_muon.model._likelihood import zinb_log_likelihood_of_heads
from scmag_muon.model._recorded import RecordedSteps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

    from scmag_muon.model._module import SCMAGModule

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA GPU")


@pytest.mark.parametrize("one_dispersion", [False, True])
def test_likelihood_and_derivatives_are_those_of_double_precision(*, one_dispersion: bool) -> None:
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.negative_binomial(0.3, 0.1, (200, 500)), dtype=torch.float64)
    x[0, :5] = torch.tensor([0, 1, 17, 900, 20_000])
    log_size = torch.as_tensor(rng.normal(0, 0.5, (200, 1)))
    hidden = torch.as_tensor(rng.normal(size=(200, 16)))
    heads = [torch.as_tensor(rng.normal(size=(500, 16)) / 4) for _ in range(3)]
    biases = [torch.as_tensor(rng.normal(size=500)) for _ in range(3)]

    def on(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [value.to(device, dtype).requires_grad_() for value in (hidden, *heads, *biases)]
        weights = [leaves[1], None if one_dispersion else leaves[2], leaves[3]]
        fixed = (x.to(device, dtype), log_size.to(device, dtype))
        total = zinb_log_likelihood_of_heads(*fixed, leaves[0], weights, leaves[4:])
        used = [leaf for leaf in leaves if not (one_dispersion and leaf is leaves[2])]
        return [total, *torch.autograd.grad(total.sum(), used)]

    for found, expected in zip(on("cuda", torch.float32), on("cpu", torch.float64), strict=True):
        assert torch.linalg.norm(found.cpu().double() - expected) < 1e-5 * torch.linalg.norm(expected)


@pytest.mark.parametrize("dispersion", ["gene", "gene-cell"])
def test_loss_and_gradients_are_those_of_the_cpu(
    make_module: Callable[..., SCMAGModule], tensors: dict[str, torch.Tensor], dispersion: str
) -> None:
    module = make_module(dispersion=dispersion, relative_distance=True).eval()  # without noise, which differs by device
    module.stage.fill_(3)

    def on(device: str) -> list[torch.Tensor]:
        module.to(device).zero_grad()
        minibatch = {key: value.to(device) for key, value in tensors.items()}
        _, _, output = module(minibatch, loss_kwargs={"kl_weight": 0.01, "cluster_weight": 10.0})
        output.loss.backward()
        found = [output.loss.detach(), *(p.grad for p in module.parameters() if p.grad is not None)]
        return [value.cpu().clone() for value in found]  # the module takes its gradients along

    expected = on("cpu")
    for one, other in zip(on("cuda"), expected, strict=True):
        assert torch.linalg.norm(one - other) <= 1e-4 * torch.linalg.norm(other)


def test_clusters_are_those_of_the_cpu() -> None:
    labels = {}
    for accelerator in ("gpu", "cpu"):
        mdata = smm.datasets.simulate_citeseq(n_obs=400, n_vars=200, n_prot=20, n_clusters=4)
        model = smm.tl.scmag(mdata, n_clusters=4, accelerator=accelerator, progress_bar=False, return_model=True)
        assert model.device.type == {"gpu": "cuda", "cpu": "cpu"}[accelerator]
        labels[accelerator] = mdata.obs["scmag"]
    assert adjusted_rand_score(labels["gpu"], labels["cpu"]) > 0.88  # two seeds on the CPU have .89 to .94


def test_data_are_kept_on_the_device(citeseq: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = set()
    original = ReadyDataSplitter.train_dataloader

    def spy(self: ReadyDataSplitter) -> Any:
        devices.update(value.device.type for value in self.ready.values())
        return original(self)

    monkeypatch.setattr(ReadyDataSplitter, "train_dataloader", spy)
    smm.tl.scmag(citeseq, n_clusters=3, accelerator="gpu", max_epochs_pretrain=2, max_epochs=1, progress_bar=False)
    assert devices == {"cuda"}


def test_saved_on_a_gpu_and_loaded_on_the_cpu(citeseq: MuData, tmp_path: Path) -> None:
    model = smm.tl.scmag(
        citeseq,
        n_clusters=3,
        accelerator="gpu",
        max_epochs_pretrain=4,
        max_epochs=2,
        progress_bar=False,
        return_model=True,
    )
    model.save(tmp_path / "model")
    loaded = smm.model.SCMAG.load(tmp_path / "model", adata=model.adata, accelerator="cpu")
    assert loaded.device.type == "cpu"
    np.testing.assert_allclose(
        loaded.get_latent_representation(), model.get_latent_representation(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("stage", [2, 3])
def test_recorded_steps_are_those_that_python_takes(
    make_module: Callable[..., SCMAGModule], tensors: dict[str, torch.Tensor], stage: int
) -> None:
    batches = [
        {key: value[rows].cuda() for key, value in tensors.items()} for rows in _rows_of_steps(len(tensors["batch"]))
    ]

    def after_all(*, recorded: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        module = make_module(relative_distance=True).eval().cuda()  # no noise
        module.stage.fill_(stage)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True, capturable=True)

        def work(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            weights = {"kl_weight": 0.01, "cluster_weight": 10.0 if stage == 3 else 0.0}
            _, _, output = module(batch, inference_kwargs={"clustering": stage == 3}, loss_kwargs=weights)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            return output.loss.detach()

        step = RecordedSteps(work) if recorded else work
        losses = torch.stack([step(batch).clone() for batch in batches])
        return [losses, *(parameter.detach().clone() for parameter in module.parameters())]

    for one, other in zip(after_all(recorded=True), after_all(recorded=False), strict=True):
        assert torch.linalg.norm(one - other) <= 1e-4 * torch.linalg.norm(other)


def _rows_of_steps(n_obs: int) -> list[slice]:
    whole, part = slice(0, n_obs - 2), slice(0, n_obs // 2)
    return [whole, whole, part, whole, whole, slice(1, n_obs - 1), part, slice(2, n_obs), whole]


def test_recorded_steps_draw_new_numbers() -> None:
    steps = RecordedSteps(lambda batch: torch.randn_like(batch["x"]))
    drawn = torch.stack([steps({"x": torch.zeros(100, device="cuda")}).clone() for _ in range(10)])
    assert len(torch.unique(drawn, dim=0)) == len(drawn)


def test_training_in_recorded_steps_finds_what_plain_training_finds() -> None:
    found = {}
    for record in (True, False):
        mdata = smm.datasets.simulate_citeseq(n_obs=2000, n_vars=200, n_prot=20, n_clusters=4)
        plan = {"record_steps": record}
        model = smm.tl.scmag(
            mdata, n_clusters=4, accelerator="gpu", progress_bar=False, return_model=True, plan_kwargs=plan
        )
        found[record] = mdata.obs["scmag"], model.training_history
        assert model.optimizer_state_["param_groups"][0]["capturable"] is False
    labels, histories = zip(*found.values(), strict=True)
    assert adjusted_rand_score(*labels) > 0.97
    lowest = [history["validation_loss"].min() for history in histories]
    assert lowest[0] == pytest.approx(lowest[1], rel=0.01)


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[torch.cuda.CUDAGraph]:
    """Graphs in the order of their replays."""
    done: list[torch.cuda.CUDAGraph] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(self: torch.cuda.CUDAGraph) -> None:
        done.append(self)
        replay(self)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return done


def _pairs() -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=200, n_vars=60, n_prot=12)


def _mosaic() -> MuData:
    mdata = _pairs()
    return type(mdata)({"rna": mdata.mod["rna"], "prot": mdata.mod["prot"][50:].copy()})


@pytest.mark.parametrize(
    ("made", "of_model"),
    [
        (_pairs, {}),
        (_pairs, {"settings": "paper"}),
        (_pairs, {"model_kwargs": {"dispersion": "gene-cell"}}),
        (_pairs, {"batch_key": "batch"}),
        (_mosaic, {}),
    ],
)
def test_steps_are_recorded(
    replays: list[torch.cuda.CUDAGraph], made: Callable[[], MuData], of_model: dict[str, Any]
) -> None:
    mdata = made()
    mdata.obs["batch"] = np.resize(["a", "b"], mdata.n_obs)
    epochs = {"max_epochs_pretrain": 20, "max_epochs": 10, "batch_size": 16}
    smm.tl.scmag(mdata, n_clusters=3, accelerator="gpu", progress_bar=False, **epochs, **of_model)
    assert len(replays) > 20
    assert len(set(map(id, replays))) >= 3  # each stage


def test_work_that_fetches_a_value_is_done_as_it_comes(replays: list[torch.cuda.CUDAGraph]) -> None:
    steps = RecordedSteps(lambda batch: batch["x"] * float(batch["x"].sum()))
    x = torch.ones(3, device="cuda")
    for _ in range(6):
        assert steps({"x": x}).tolist() == [3, 3, 3]
    assert not replays
    steps = RecordedSteps(lambda batch: torch.randn_like(batch["x"]) + batch["x"])  # others still are
    drawn = torch.stack([steps({"x": x}).clone() for _ in range(6)])
    assert len(torch.unique(drawn)) == drawn.numel()
    assert replays
