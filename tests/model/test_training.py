from __future__ import annotations

import copy
import io
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon.model import SCMAG, _training
from scmag_muon.model._module import SCMAGModule
from scmag_muon.model._training import SCMAGTrainingPlan, StageProgress, _Bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

LONG = {"label_tolerance": 0.0}  # no stage ends early


class Recorder(Callback):
    """What the plan was about in each minibatch, and the network before and after the expectation step."""

    def __init__(self) -> None:
        self.stages: list[int] = []
        self.weights: list[tuple[float, float]] = []
        self.training: list[bool] = []
        self.labels: list[np.ndarray] = []
        self.before: list[SCMAGModule] = []
        self.after: list[SCMAGModule] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.before.append(copy.deepcopy(pl_module.module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.stages.append(pl_module.stage)
        self.weights.append((pl_module.kl_weight, pl_module.cluster_weight))
        self.training.append(pl_module.module.training)
        self.labels.append(pl_module._labels.numpy())
        self.after.append(copy.deepcopy(pl_module.module))


@pytest.fixture(scope="module")
def mdata() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=40, n_prot=8, n_clusters=3)
    smm.pp.manifold_fit(mdata)
    SCMAG.setup_mudata(mdata)
    return mdata


def train(model: SCMAG, pretrain: int, cluster: int, **changes: Any) -> Recorder:
    recorder = Recorder()
    plan = {**LONG, **changes.pop("plan_kwargs", {})}
    fixed = {"progress_bar": False, "accelerator": "cpu", "callbacks": [recorder], "plan_kwargs": plan}
    model.train(max_epochs_pretrain=pretrain, max_epochs=cluster, **fixed, **changes)
    return recorder


def plan(make_module: Callable[..., SCMAGModule], **changes: Any) -> SCMAGTrainingPlan:
    return SCMAGTrainingPlan(make_module(), **changes)


def test_weights_by_stage(mdata: MuData) -> None:
    model = SCMAG(mdata, 3, kl_weight=0.2, cluster_weight=0.7)
    recorder = train(model, 4, 2)
    assert recorder.stages == [1, 1, 2, 2, 3, 3]
    assert recorder.weights == [(0, 0)] * 2 + [(0.2, 0)] * 2 + [(0.2, 0.7)] * 2
    history = model.training_history
    parts = history["reconstruction_rna"] + history["reconstruction_prot"]
    kl_weight, cluster_weight = np.array(recorder.weights).T
    parts += kl_weight * history["kl"] + cluster_weight * history["cluster"]
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-5)
    assert (history["kl"] > 0).all()
    assert (history["cluster"] > 0).tolist() == [False] * 4 + [True] * 2


def test_no_step_asks_for_the_stage(mdata: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies on the device, and to fetch it is to wait for all that the device has still to do."""
    within = False
    evaluate = SCMAGTrainingPlan._evaluate

    def watched(self: SCMAGTrainingPlan, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal within
        within = True
        found = evaluate(self, *arguments)
        within = False
        return found

    def started(self: SCMAGModule) -> bool:
        assert not within
        return int(self.stage) == 3

    monkeypatch.setattr(SCMAGTrainingPlan, "_evaluate", watched)
    monkeypatch.setattr(SCMAGModule, "clustering_started", property(started))
    monkeypatch.setattr(SCMAGTrainingPlan, "stage", property(lambda self: 1 + 2 * started(self.module)))
    model = SCMAG(mdata, 3)
    model.train(max_epochs_pretrain=1, max_epochs=2, progress_bar=False, accelerator="cpu")
    assert model.module.stage_epochs.sum() == 3


@pytest.mark.parametrize(("pretrain", "limits"), [(0, (0, 0)), (1, (1, 0)), (4, (2, 2)), (5, (3, 2))])
def test_stages_end_at_their_limits(mdata: MuData, pretrain: int, limits: tuple[int, int]) -> None:
    model = SCMAG(mdata, 3)
    recorder = train(model, pretrain, 2)
    assert recorder.stages == [1] * limits[0] + [2] * limits[1] + [3] * 2
    assert model.module.stage_epochs.tolist() == [*limits, 2]
    assert model.training_history["stage"].tolist() == recorder.stages


def test_stage_counts_epochs_and_not_minibatches(mdata: MuData) -> None:
    recorder = train(SCMAG(mdata, 3), 2, 1, batch_size=30)
    assert recorder.stages == [1] * 3 + [2] * 3 + [3] * 3


def test_stages_end_when_held_out_cells_gain_no_more(mdata: MuData) -> None:
    # nothing moves at this learning rate, so the loss has no new minimum but by the noise of a shifting stage
    recorder = train(SCMAG(mdata, 3), 24, 1, train_size=0.8, plan_kwargs={"patience": 3, "lr": 0.0})
    assert recorder.stages == [1] * 4 + [2] * 4 + [3]


def test_stages_run_all_epochs_without_held_out_cells(mdata: MuData) -> None:
    recorder = train(SCMAG(mdata, 3), 24, 1, train_size=1.0, plan_kwargs={"patience": 3, "lr": 0.0})
    assert recorder.stages == [1] * 12 + [2] * 12 + [3]


@pytest.mark.parametrize(
    ("losses", "over"),
    [
        ([5.0, 4.0, 3.0, 2.0, 1.0], False),
        ([5.0, 4.0, 4.5, 4.4], False),
        ([5.0, 4.0, 4.5, 4.4, 4.1], True),
        ([5.0, 4.0, 4.5, 4.4, 3.9], False),
        ([-1.0, -1.0, -1.0, -1.0], True),
        ([1.0, 2.0, 3.0], False),
        ([], False),
    ],
)
def test_convergence_of_the_loss(make_module: Callable[..., SCMAGModule], losses: list[float], *, over: bool) -> None:
    made = plan(make_module, patience=3)
    made._validation_losses = losses
    assert made._stage_is_over() is over


@pytest.mark.parametrize(("tolerance", "most"), [(1.0, 2), (0.0, 6)])
def test_clustering_ends_when_labels_settle(mdata: MuData, tolerance: float, most: int) -> None:
    recorder = train(SCMAG(mdata, 3), 2, 6, plan_kwargs={"label_tolerance": tolerance})
    assert recorder.stages[:3] == [1, 2, 3]
    assert 1 <= recorder.stages.count(3) <= most
    assert tolerance or recorder.stages.count(3) == most


def test_clustering_does_not_end_before_labels_could_change(mdata: MuData) -> None:
    recorder = train(SCMAG(mdata, 3), 4, 6, plan_kwargs={"label_tolerance": 1e-3})
    assert recorder.stages.count(3) > 1


def test_no_clustering_epoch_where_none_is_asked_for(mdata: MuData) -> None:
    assert 3 not in train(SCMAG(mdata, 3), 4, 0).stages
    early = train(SCMAG(mdata, 3), 24, 0, train_size=0.8, plan_kwargs={"patience": 3, "lr": 0.0})
    assert early.stages == [1] * 4 + [2] * 4


def test_expectation_step(mdata: MuData) -> None:
    model = SCMAG(mdata, 4, relative_distance=True)
    recorder = train(model, 4, 5, plan_kwargs={"lr": 1e-2})
    inputs = [torch.as_tensor(mdata.mod[name].layers["manifold"]) for name in ("rna", "prot")]
    history = model.training_history["label_change"]
    assert history[:4].isna().all()
    for epoch in range(5, 9):
        before, after = recorder.before[epoch].eval(), recorder.after[epoch]
        with torch.no_grad():
            zc = before.cluster_space(before.encoder(inputs))[0]  # without noise
            q = before.assign(zc)
        np.testing.assert_array_equal(recorder.labels[epoch], q.argmax(dim=1))
        torch.testing.assert_close(after.centers, (q / q.sum(dim=0)).T @ zc, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(after.centers, before.centers, rtol=1e-3)
        changed = (recorder.labels[epoch] != recorder.labels[epoch - 1]).mean()
        assert history[epoch] == pytest.approx(changed)
    assert all(recorder.training)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Space and assignments at each renewal of the centres."""
    calls = []
    original = SCMAGModule.set_centers

    def spy(self: SCMAGModule, zc: torch.Tensor, q: torch.Tensor) -> None:
        calls.append((zc.clone(), q.clone()))
        original(self, zc, q)

    monkeypatch.setattr(SCMAGModule, "set_centers", spy)
    return calls


def test_centres_start_from_given_labels(mdata: MuData, starts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 90)
    model = SCMAG(mdata, 3, gate_bias=0.0)
    train(model, 2, 1, initial_labels=labels, batch_size=20)
    for _, q in starts[:2]:
        np.testing.assert_array_equal(q, np.eye(3)[labels])
    torch.testing.assert_close(starts[1][0], starts[0][0] / 2)  # first in Z1, then in the Zc of those centres


def test_centres_start_from_clusters_without_the_network_where_both_agree(
    mdata: MuData, starts: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (90, 1))
    plain = labels.copy()
    plain[0] = (plain[0] + 1) % 3
    model = SCMAG(mdata, 3)
    train(model, 2, 1, initial_labels=labels, plan_kwargs={"plain_labels": plain, "n_unfitted": 1})
    np.testing.assert_array_equal(starts[0][1].argmax(dim=1), plain[:, 0])
    plain[:40] = (plain[:40] + 1) % 3
    train(other := SCMAG(mdata, 3), 2, 1, initial_labels=labels, plan_kwargs={"plain_labels": plain, "n_unfitted": 1})
    assert float(other.module.network_agreement) < float(model.module.network_agreement) == 1


@pytest.mark.parametrize("plain_is_taken", [True, False])
def test_centres_stay_those_of_clusters_without_the_network(mdata: MuData, *, plain_is_taken: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (90, 1))
    plan = {"plain_labels": labels, "n_unfitted": 1, "lr": 1e-2} if plain_is_taken else {"lr": 1e-2}
    recorder = train(SCMAG(mdata, 3), 2, 4, initial_labels=labels, plan_kwargs=plan)
    inputs = [torch.as_tensor(mdata.mod[name].layers["manifold"]) for name in ("rna", "prot")]
    for before, after in list(zip(recorder.before, recorder.after, strict=True))[3:]:
        with torch.no_grad():
            zc = before.eval().cluster_space(before.encoder(inputs))[0]
        means = torch.stack([zc[labels[:, 0] == k].mean(dim=0) for k in range(3)])
        assert torch.allclose(after.centers, means, rtol=1e-4, atol=1e-5) == plain_is_taken


@pytest.mark.parametrize(
    "plain",
    [np.zeros((89, 1), int), np.full((90, 1), -1), np.full((90, 1), 3), np.zeros((90, 2), int), np.zeros((90, 1))],
)
def test_clusters_without_the_network_are_checked(mdata: MuData, plain: np.ndarray) -> None:
    with pytest.raises(ValueError, match="plain_labels"):
        train(SCMAG(mdata, 3), 2, 1, initial_labels=np.zeros(90, int), plan_kwargs={"plain_labels": plain})
    with pytest.raises(ValueError, match="plain_labels"):  # of no divisions
        train(SCMAG(mdata, 3), 2, 1, plan_kwargs={"plain_labels": np.zeros((90, 1), int)})


def test_centres_start_from_k_means(mdata: MuData, starts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    train(SCMAG(mdata, 3), 2, 1)
    z1, q = starts[0]
    expected = KMeans(3, n_init=10, random_state=0).fit_predict(z1.numpy())
    assert adjusted_rand_score(expected, q.argmax(dim=1)) == pytest.approx(1)
    assert q.sum(dim=1).eq(1).all()


def test_largest_cluster_comes_first(mdata: MuData) -> None:
    for seed in range(4):
        model = SCMAG(mdata, 6)
        train(model, 2, 3, random_state=seed, batch_size=30, plan_kwargs={"lr": 1e-2})
        assert (np.diff(np.bincount(model.get_cluster_assignments(), minlength=6)) <= 0).all()


def test_centres_fit_the_final_network(mdata: MuData) -> None:
    """They are renewed once more than epochs begin: after the last step, in the space of the network as it is then."""
    model = SCMAG(mdata, 3, relative_distance=False)
    recorder = train(model, 2, 3, plan_kwargs={"lr": 1e-2})
    inputs = [torch.as_tensor(mdata.mod[name].layers["manifold"]) for name in ("rna", "prot")]
    module, last = model.module, copy.deepcopy(model.module)
    last.centers.copy_(recorder.after[-1].centers)  # as the last epoch began with them
    with torch.no_grad():
        zc = last.cluster_space(module.encoder(inputs))[0]
        q = last.assign(zc)
        renewed = (q / q.sum(dim=0)).T @ zc
    order = torch.cdist(module.centers, renewed).argmin(dim=1)
    assert sorted(order.tolist()) == [0, 1, 2]
    torch.testing.assert_close(module.centers, renewed[order], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(last.centers[order], module.centers, rtol=1e-3, atol=1e-3)


def test_how_many_cells_are_gated_at_a_time_does_not_matter(mdata: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_a_time in (2**16, 17):
        monkeypatch.setattr(_training, "_CELLS_AT_A_TIME", at_a_time)
        model = SCMAG(mdata, 3)
        train(model, 2, 3, plan_kwargs={"lr": 1e-2})
        found.append((model.module.centers, torch.as_tensor(model.get_latent_representation())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_second_training_does_not_warn(mdata: MuData) -> None:
    model = SCMAG(mdata, 3)
    for _ in range(2):
        train(model, 2, 1)


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_training_goes_on_where_it_stopped(mdata: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SCMAG(mdata, 3)
    assert train(model, 4, 0).stages == [1, 1, 2, 2]
    second = train(model, 6, 2)
    assert second.stages == [2, 3, 3]
    assert all(second.training)  # scvi-tools leaves the network in evaluation mode
    assert not model.module.training
    monkeypatch.setattr(SCMAGTrainingPlan, "_start_clusters", lambda self: pytest.fail("centres started anew"))
    third = train(model, 6, 3)
    assert third.stages == [3, 3, 3]
    assert all(third.training)
    assert model.module.stage_epochs.tolist() == [2, 3, 5]
    assert model.training_history["stage"].tolist() == [1, 1, 2, 2, 2, 3, 3, 3, 3, 3]


def test_stage_is_saved_with_the_network(mdata: MuData) -> None:
    model, other = SCMAG(mdata, 3), SCMAG(mdata, 3)
    train(model, 5, 2)
    other.module.load_state_dict(model.module.state_dict())
    assert int(other.module.stage) == 3
    assert other.module.stage_epochs.tolist() == [3, 2, 2]
    torch.testing.assert_close(other.module.centers, model.module.centers)
    torch.testing.assert_close(other.module.whitening, model.module.whitening)
    assert train(other, 5, 1).stages == [3]


def test_arguments_of_the_optimizer(make_module: Callable[..., SCMAGModule]) -> None:
    made = plan(make_module, lr=0.02, eps=1e-5, weight_decay=0.3)
    optimizer = made.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.Adam)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["eps"], group["weight_decay"]) == (0.02, 1e-5, 0.3)
    assert len(group["params"]) == len(list(made.module.parameters()))


def test_every_term_falls_with_training(mdata: MuData) -> None:
    model = SCMAG(mdata, 3)
    # minibatches below 32 cells do not tell their own variance
    train(model, 20, 30, batch_size=45, plan_kwargs={"cluster_patience": None})
    history = model.training_history
    for term in ("reconstruction_rna", "reconstruction_prot"):
        assert history[term].iloc[-1] < 0.8 * history[term].iloc[0]
    assert history["cluster"].iloc[-1] < 0.8 * history["cluster"].iloc[20]


def test_clustering_ends_when_labels_only_drift(mdata: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCMAGTrainingPlan, "_update_clusters", lambda self: setattr(self, "_label_change", 0.5))
    arguments = {"label_tolerance": 0.1, "cluster_patience": 4}
    assert train(SCMAG(mdata, 3), 2, 12, plan_kwargs=arguments).stages.count(3) == 6
    arguments = {"label_tolerance": 0.1, "cluster_patience": None}
    assert train(SCMAG(mdata, 3), 2, 12, plan_kwargs=arguments).stages.count(3) == 12


def test_progress_is_taken_up_whole(make_module: Callable[..., SCMAGModule]) -> None:
    before, after = (SCMAGTrainingPlan(make_module()) for _ in range(2))
    progress = {"validation_losses": [3.0, 2.0], "labels": torch.arange(4), "label_changes": [1.0, 0.25]}
    before.take_up({**progress, "anchors": torch.tensor([3, 2, 1, 0])})
    after.take_up(before.progress())
    assert after._anchors.tolist() == [3, 2, 1, 0]
    assert after._validation_losses == [3.0, 2.0]
    assert after._label_changes == [1.0, 0.25]
    assert after._labels.tolist() == [0, 1, 2, 3]


def test_bar_that_was_caught_half_made_closes_without_a_word() -> None:
    bar = _Bar.__new__(_Bar)
    bar.disable = False
    bar.close()
    assert bar.disable


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "first", "shown"), [(Screen(), True, True), (Screen(), False, False), (io.StringIO(), True, False)]
)
def test_bar_is_shown_on_a_screen_by_the_first_process(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, first: bool, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    progress = StageProgress((2, 1))
    trainer = SimpleNamespace(is_global_zero=first, callback_metrics={"train_loss": 3.0})
    progress.on_train_start(trainer, None)
    progress.on_train_epoch_end(trainer, SimpleNamespace(stage=1))
    progress.on_train_end(trainer, None)
    assert ("scMAG stage 1/3" in screen.getvalue()) == shown
    assert bool(screen.getvalue()) == shown
