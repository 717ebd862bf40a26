"""Training in three stages, each ending on convergence (paper, section 2.4 and eq. 33)."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import TrainingPlan
from sklearn.cluster import KMeans
from torch import Tensor
from tqdm.auto import tqdm

from scmag_muon._bars import hidden
from scmag_muon._memory import give_back
from scmag_muon.model._clustering import join_before_and_after, join_overlapping
from scmag_muon.model._health import STAGE_NAMES, check_network, check_space, check_terms
from scmag_muon.model._module import PRESENT
from scmag_muon.model._recorded import RecordedSteps, can_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from scmag_muon.model._module import SCMAGModule

_CELLS_AT_A_TIME = 2**16
_BETWEEN_PROCESSES = 1_000_003  # so that seeds near each other have no noise in common


class SCMAGTrainingPlan(TrainingPlan):
    """The stages of :class:`~scmag_muon.model.SCMAG`.

    Stage 1 reconstructs, stage 2 adds the KL divergence, stage 3 the clustering loss with its gate. A stage ends when its
    epochs are used up or when it has converged: stages 1 and 2 when the loss of held-out cells stops falling (that of the
    training cells goes on falling while the network learns their noise by heart), stage 3 when cells stop
    changing clusters. Stage and epochs are buffers of the module: saved with it, and training goes on where it stopped.

    Parameters
    ----------
    module
        The network.
    n_epochs_pretrain
        Most epochs of stages 1 and 2, half each.
    n_epochs_cluster
        Most epochs of stage 3 in this call.
    kl_weight, cluster_weight
        α and β of eq. 33 once their stage has come.
    initial_labels
        Cluster of every cell from which the centres start, or finer communities that are joined to clusters first, or several
        such divisions side by side; ``None`` starts the centres by k-means on Z1.
    initial_profiles, profile_weight, n_unfitted, plain_labels
        Mean expression of the communities of each division, how much it counts, and clusters found without the network, for
        :func:`~scmag_muon.model._clustering.join_before_and_after`.
    record_steps
        On one GPU, in single precision: record a step once as a CUDA graph and replay it. Python then launches one thing, not hundreds.
    join_overlapping
        Join those of the initial clusters that are one in Z1: fewer clusters than the module has centres then hold cells.
    patience
        Stages 1 and 2 end when the loss of the held-out cells has reached no new minimum for so many epochs.
    label_tolerance
        Stage 3 has converged when less than this share of the cells changed cluster in an epoch.
    cluster_patience
        Stage 3 also ends, not converged, when that share has reached no new minimum for so many epochs; ``None``: never.
    optimizer_state
        State of the optimiser at the end of an earlier call, to go on from.
    random_state
        Seed of the k-means.
    lr, cluster_lr
        Learning rate of Adam in stages 1 and 2, and in stage 3.
    eps, weight_decay
        Of Adam.
    modalities
        Names of the modalities, for messages.
    """

    def __init__(
        self,
        module: SCMAGModule,
        *,
        n_epochs_pretrain: int = 400,
        n_epochs_cluster: int = 100,
        kl_weight: float = 0.01,
        cluster_weight: float = 10.0,
        initial_labels: np.ndarray | None = None,
        initial_profiles: Sequence[np.ndarray] | None = None,
        profile_weight: float = 1.0,
        n_unfitted: int = 0,
        plain_labels: np.ndarray | None = None,
        record_steps: bool = True,
        join_overlapping: bool = False,
        patience: int = 5,
        label_tolerance: float = 1e-3,
        cluster_patience: int | None = 10,
        optimizer_state: dict[str, Any] | None = None,
        random_state: int | None = 0,
        lr: float = 3e-3,
        cluster_lr: float = 3e-4,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        modalities: Sequence[str] = (),
    ) -> None:
        self._kl_weight_reached = kl_weight
        self._cluster_weight_reached = cluster_weight
        super().__init__(
            module,
            optimizer="Custom",
            optimizer_creator=lambda params: torch.optim.Adam(
                params, lr=lr, eps=eps, weight_decay=weight_decay, fused=True
            ),
        )
        self.modalities = modalities
        self.limits = (n_epochs_pretrain - n_epochs_pretrain // 2, n_epochs_pretrain // 2)
        self.n_epochs_cluster = n_epochs_cluster
        self.initial_labels = initial_labels
        self.initial_profiles = initial_profiles
        self.profile_weight = profile_weight
        self.n_unfitted = n_unfitted
        self.plain_labels = plain_labels
        self.record_steps = record_steps
        self.join_overlapping = join_overlapping
        self.patience = patience
        self.cluster_lr = cluster_lr
        self.label_tolerance = label_tolerance
        self.cluster_patience = cluster_patience
        self.random_state = random_state
        self.optimizer_state = optimizer_state
        self.converged = False
        self._validation_losses: list[float] = []
        self._sums: dict[str, Tensor] = {}
        self._of_stage: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self._recorded: RecordedSteps | None = None
        self._labels = torch.empty(0, dtype=torch.long)
        self._anchors: Tensor | None = None
        self._label_changes: list[float] = []

    def progress(self) -> dict[str, Any]:
        """What the plan knows of the epochs that are over, beside the network and the optimiser."""
        return {
            "validation_losses": list(self._validation_losses),
            "labels": self._labels,
            "anchors": self._anchors,
            "label_changes": list(self._label_changes),
        }

    def take_up(self, progress: Mapping[str, Any]) -> None:
        """Go on from where :meth:`progress` was asked for."""
        self._validation_losses = list(progress["validation_losses"])
        self._labels = progress["labels"].to(self.device)
        self._anchors = None if progress["anchors"] is None else progress["anchors"].to(self.device)
        self._label_changes = list(progress["label_changes"])

    @property
    def stage(self) -> int:
        """1, 2 or 3."""
        module = getattr(self, "module", None)
        return 1 if module is None else int(module.stage)

    @property
    def kl_weight(self) -> float:
        """α of eq. 33: 0 in stage 1."""
        return self._kl_weight_reached if self.stage >= 2 else 0.0

    @property
    def cluster_weight(self) -> float:
        """β of eq. 33: 0 before stage 3."""
        return self._cluster_weight_reached if self.stage == 3 else 0.0

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimiser, where an earlier call left it."""
        config = super().configure_optimizers()
        if self.optimizer_state is not None:
            rate = config["optimizer"].param_groups[0]["lr"]
            config["optimizer"].load_state_dict(
                copy.deepcopy(self.optimizer_state)
            )  # Adam writes into what it is given
            for group in config["optimizer"].param_groups:
                group["lr"] = rate  # this call's, not that of the earlier one
        return config

    def on_fit_start(self) -> None:
        """Begin where the network stands."""
        self._settle()

    def on_train_start(self) -> None:
        """Draw new noise: a model just loaded has none left from an earlier call. Each process draws its own."""
        self.module.encoder.renew_noise()
        if self.record_steps and can_record(self.trainer):
            self._take_own_steps(own=True)
        if self.trainer.global_rank:
            torch.manual_seed(torch.initial_seed() + _BETWEEN_PROCESSES * self.trainer.global_rank)

    def on_train_epoch_start(self) -> None:
        """Move to the next stage where the present one is over; in stage 3 renew the centres (expectation step)."""
        while self._can_advance() and self._stage_is_over():
            self.module.stage += 1
            self._validation_losses.clear()
            if self.stage == 3:
                self._start_clusters()
        if self.stage == 3:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = self.cluster_lr
            self._update_clusters()
        self._settle()

    def on_train_epoch_end(self) -> None:
        """Count the epoch; end the training when stage 3 is over."""
        check_terms(self._log_means("train"), modalities=self.modalities, **self._now())
        self.module.stage_epochs[self.stage - 1] += 1
        self.log("stage", float(self.stage), on_step=False, on_epoch=True, sync_dist=self.use_sync_dist)
        if self.stage == 2 and not self._can_advance() and self._stage_is_over():
            self.trainer.should_stop = True
        if self.stage == 3:
            self._label_changes.append(self._label_change)
            self.log("label_change", self._label_change, on_step=False, on_epoch=True, sync_dist=self.use_sync_dist)
            # the first expectation step repeats the start: only the second can tell
            self.converged = len(self._label_changes) > 1 and self._label_change < self.label_tolerance
            stalled = self.cluster_patience is not None and _stalled(self._label_changes[1:], self.cluster_patience)
            if self.converged or stalled or len(self._label_changes) >= self.n_epochs_cluster:
                self.trainer.should_stop = True

    def on_validation_epoch_end(self) -> None:
        """Keep the loss of the held-out cells."""
        if not self.trainer.sanity_checking:
            means = self._log_means("validation")
            check_terms(means, modalities=self.modalities, **self._now())
            self._validation_losses.append(means["validation_loss"])

    def on_train_end(self) -> None:
        """Leave centres that fit the final network, the largest cluster first."""
        if self._recorded is not None:
            self._take_own_steps(own=False)
        check_network(self.module, **self._now())
        if self.stage == 3:
            self._update_clusters()
            with torch.no_grad():
                q = self.module.assign(self._cluster_space(self._ungated_space()))
            sizes = torch.bincount(q.argmax(dim=1), minlength=len(self.module.centers))
            self.module.reorder_clusters(torch.argsort(sizes, descending=True, stable=True))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """One minibatch: eq. 33 with the weights of the stage."""
        if self._recorded is not None:
            self._add("train", self._recorded(batch))
            return None
        loss, sums = self._evaluate(batch)
        self._add("train", sums)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The same loss on cells held out."""
        self._add("validation", self._evaluate(batch)[1])

    def _settle(self) -> None:
        """Know the stage, which lies on the device: a step that asked for it would wait until the device is there."""
        of_stage = (
            {"clustering": self.stage == 3},
            {"kl_weight": self.kl_weight, "cluster_weight": self.cluster_weight},
        )
        if self._recorded is not None and of_stage != self._of_stage:
            self._recorded.forget()
        self._of_stage = of_stage

    def _evaluate(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss of a minibatch, and its terms times the number of its cells, with that number last."""
        of_inference, of_loss = self._of_stage
        _, _, output = self.forward(batch, inference_kwargs=of_inference, loss_kwargs=of_loss)
        parts = [part.mean() for part in output.reconstruction_loss.values()]
        parts += [output.kl_local["kl"].mean(), output.extra_metrics["cluster_loss"], output.loss]
        sums = torch.stack([*parts, torch.ones_like(output.loss)]).detach() * output.n_obs_minibatch
        return output.loss, sums

    def _add(self, mode: str, sums: Tensor) -> None:
        self._sums[mode] = self._sums.get(mode, 0) + sums

    def _whole_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Training on one minibatch, with nothing that waits for the device."""
        optimizer = self.trainer.optimizers[0]
        loss, sums = self._evaluate(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return sums

    def _take_own_steps(self, *, own: bool) -> None:
        """Take the optimiser's steps in place of Lightning, so that they can be recorded, or leave them to it again."""
        self._recorded = RecordedSteps(self._whole_step) if own else None
        self.automatic_optimization = not own
        for group in self.trainer.optimizers[0].param_groups:
            group["capturable"] = own

    def _log_means(self, mode: str) -> dict[str, float]:
        """Log each term's mean over the cells of the epoch; Lightning would take longer to do so in each step."""
        sums = self.trainer.strategy.reduce(self._sums.pop(mode), reduce_op="sum")  # over processes that train together
        modalities = range(len(self.module.n_inputs))
        names = [*(f"reconstruction_{i}_{mode}" for i in modalities), f"kl_{mode}", f"cluster_{mode}", f"{mode}_loss"]
        means = dict(zip(names, sums[:-1] / sums[-1], strict=True))
        self.log_dict(means, on_step=False, on_epoch=True, sync_dist=self.use_sync_dist)
        return {name: float(mean) for name, mean in means.items()}

    def _now(self) -> dict[str, Any]:
        """Where the training is, for messages."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return {"stage": self.stage, "epoch": int(self.module.stage_epochs.sum()) + 1, "lr": float(rate)}

    def _can_advance(self) -> bool:
        return self.stage == 1 or (self.stage == 2 and self.n_epochs_cluster > 0)

    def _stage_is_over(self) -> bool:
        done = int(self.module.stage_epochs[self.stage - 1])
        if done >= self.limits[self.stage - 1]:
            return True
        return _stalled(self._validation_losses, self.patience)

    def _ungated_batches(self) -> Iterator[Tensor]:
        for tensors in self.trainer.datamodule.all_cells([*self.module.input_keys, PRESENT]):
            yield self.module.ungated_space({key: value.to(self.device) for key, value in tensors.items()})

    @torch.no_grad()
    def _ungated_space(self) -> Tensor:
        self.module.eval()
        n_cells = math.ceil(self.trainer.datamodule.n_obs / self.trainer.world_size)
        z1 = _stacked(self._ungated_batches(), n_cells)
        if self.trainer.world_size > 1:
            z1 = self.all_gather(z1).flatten(0, 1)[: self.trainer.datamodule.n_obs]
        self.module.train()
        check_space(z1, **self._now())
        return z1

    @torch.no_grad()
    def _start_clusters(self) -> None:
        z1 = self._ungated_space()
        n_clusters, are_plain = len(self.module.centers), False
        if self.initial_labels is None:
            kmeans = KMeans(n_clusters, n_init=10, random_state=self.random_state)
            labels = torch.as_tensor(kmeans.fit_predict(z1.cpu().numpy()), device=z1.device)
        else:
            communities = torch.as_tensor(self.initial_labels, device=z1.device)
            joined = join_before_and_after(
                z1,
                communities,
                n_clusters,
                self.initial_profiles,
                self.profile_weight,
                n_unfitted=self.n_unfitted,
                plain=self.plain_labels,
            )
            labels, are_plain = joined.labels, joined.are_plain
            self.module.fit_agreement.fill_(joined.fit_agreement)
            self.module.network_agreement.fill_(joined.network_agreement)
            if self.join_overlapping:
                labels = join_overlapping(z1, labels)
        labels = self._of_first_process(labels)
        q = self._hard(labels, z1)
        self.module.set_centers(z1, q)
        self.module.set_centers(self._cluster_space(z1), q)
        self._labels = q.argmax(dim=1)
        self._anchors = self._labels.clone() if are_plain else None
        if len(z1) > _CELLS_AT_A_TIME:
            give_back()

    @torch.no_grad()
    def _update_clusters(self) -> None:
        """Expectation step. Centres of clusters that were found without the network stay those of their cells: else they drift."""
        zc = self._cluster_space(self._ungated_space())
        if self._anchors is not None:
            self.module.set_centers(zc, self._hard(self._anchors, zc))
        q = self.module.assign(zc)
        if self._anchors is None:
            self.module.set_centers(zc, q)
        labels = self._of_first_process(q.argmax(dim=1))
        same_cells = len(self._labels) == len(labels)
        self._label_change = float((labels != self._labels).float().mean()) if same_cells else 1.0
        self._labels = labels

    def _cluster_space(self, ungated: Tensor) -> Tensor:
        """Zc of all cells, of some at a time: the gate takes several times as much memory as what it gives."""
        parts = (self.module.cluster_space(part)[0] for part in ungated.split(_CELLS_AT_A_TIME))
        return _stacked(parts, len(ungated))

    def _hard(self, labels: Tensor, z: Tensor) -> Tensor:
        """The assignment Q of cells of known clusters."""
        return z.new_zeros(len(z), len(self.module.centers)).scatter_(1, labels.long().unsqueeze(1), 1)

    def _of_first_process(self, labels: Tensor) -> Tensor:
        """So that rounding on another machine changes neither the clusters' start nor when the training ends."""
        if self.trainer.world_size == 1:
            return labels
        of_first: Tensor = self.trainer.strategy.broadcast(labels.cpu())
        return of_first.to(labels.device)


def _stacked(parts: Iterable[Tensor], n_rows: int) -> Tensor:
    """Rows put in place part by part: ``torch.cat`` holds all parts beside the whole."""
    whole, start = torch.empty(0), 0
    for part in parts:
        if start == 0:
            whole = part.new_empty(n_rows, *part.shape[1:])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _stalled(values: list[float], patience: int) -> bool:
    """Whether the last ``patience`` values hold no new minimum."""
    return len(values) > patience and int(np.argmin(values)) < len(values) - patience


class _Bar(tqdm):
    # of a bar that Ctrl-C caught half made, which could not be closed without
    pos, gui = 0, True


class StageProgress(Callback):
    """One progress bar over all stages: stage, epoch and loss; none in a log file."""

    def __init__(self, limits: Sequence[int]) -> None:
        self.total = sum(limits)
        self.bar = _Bar(disable=True)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the bar."""
        self.bar = _Bar(total=self.total, desc="scMAG", unit="epoch", disable=hidden(shown=trainer.is_global_zero))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """One epoch on."""
        loss = trainer.callback_metrics.get("train_loss")
        self.bar.set_description(f"scMAG stage {pl_module.stage}/3 ({STAGE_NAMES[pl_module.stage]})")
        self.bar.set_postfix(loss="–" if loss is None else f"{float(loss):.4g}", refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar at the epochs that were needed."""
        self.bar.total = self.bar.n
        self.bar.refresh()
        self.bar.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the bar where training failed."""
        self.bar.close()
