"""Training of the model: arguments, seeds, interruptions, history."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.train import TrainRunner
from scvi.train._logger import SimpleLogger

from scmag_muon._checks import check_random_state
from scmag_muon.model._checkpoint import Checkpoint, check_folder, fingerprint, held
from scmag_muon.model._context import SignalsAsBefore, interruptible, quiet, seeded, split_cells
from scmag_muon.model._data import ReadyDataSplitter
from scmag_muon.model._distributed import strategy_of
from scmag_muon.model._train_arguments import check_devices, check_plan, check_run, of_scvi_tools
from scmag_muon.model._training import SCMAGTrainingPlan, StageProgress

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from scmag_muon.model._module import SCMAGModule

_RECORDS = (
    "history_",
    "is_trained_",
    "optimizer_state_",
    "converged_",
    "trainer",
    "train_indices_",
    "validation_indices_",
    "test_indices_",
)


class QuietRunner(TrainRunner):
    """scvi-tools' runner, which prints nothing where training fails."""

    def _run_training_core(self) -> None:
        self.trainer.fit(self.training_plan, self.data_splitter, ckpt_path=self.ckpt_path)
        self._update_history()
        # of several processes the first alone has kept it
        self.model.history_ = self.trainer.strategy.broadcast(self.model.history_)
        self.model.train_indices = self.data_splitter.train_idx
        self.model.validation_indices = self.data_splitter.val_idx
        self.model.test_indices = self.data_splitter.test_idx
        self.model.module.eval()
        self.model.is_trained_ = True
        self.model.to_device(self.device)
        self.model.trainer = self.trainer


class TrainMixin(UnsupervisedTrainingMixin, BaseModelClass):
    """Training in three stages."""

    module: SCMAGModule
    modalities_: tuple[str, ...]
    kl_weight_: float
    cluster_weight_: float
    optimizer_state_: dict[str, Any] | None
    converged_: bool
    history_: Any
    is_trained_: bool

    _query: Any = None
    _reference: Any
    _clusters: Any
    _train_new_batches: Any

    _training_plan_cls = SCMAGTrainingPlan
    _data_splitter_cls = ReadyDataSplitter
    _train_runner_cls = QuietRunner

    def train(
        self,
        *,
        max_epochs_pretrain: int = 400,
        max_epochs: int = 100,
        initial_labels: np.ndarray | None = None,
        initial_profiles: Sequence[np.ndarray] | None = None,
        train_size: float = 0.9,
        batch_size: int = 256,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
        random_state: int | None = 0,
        progress_bar: bool = True,
        checkpoint: str | os.PathLike[str] | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train in three stages; a second call goes on where the first stopped.

        A model of :meth:`load_query_data` trains the decoder weights of its new batches and nothing else; of the arguments,
        ``max_epochs``, ``batch_size`` and ``random_state`` matter then.

        A call that fails or is interrupted (Ctrl-C) leaves the model as it was before the call: weights, optimiser, history.

        Parameters
        ----------
        max_epochs_pretrain
            Most epochs of stages 1 (reconstruction) and 2 (+ KL), half each.
        max_epochs
            Most epochs of stage 3 (+ clustering) in this call.
        initial_labels
            Integer cluster of every cell from which the centres start, shape ``(n_obs,)``; or communities, more than
            ``n_clusters``, that are joined by centroid linkage in Z1; or several divisions into communities,
            ``(n_obs, n_partitions)``, each joined by itself, and what comes out by how often cells are together. ``None`` is
            k-means on Z1.
        initial_profiles
            For each division the mean expression of its communities, ``(n_communities, n_dimensions)``, in units in which that of
            a single cell scatters within its community with a variance of 1: communities are then joined by their distances in
            Z1 and in expression. With ``plan_kwargs={"profile_weight": 2}`` the latter counts twice.
        train_size
            Share of the cells to train on. The others tell when stages 1 and 2 have converged; with 1, or fewer than five cells,
            these run all their epochs. All cells are embedded and clustered, and centres are taken from all.
        batch_size
            Cells in a minibatch.
        accelerator, devices, precision
            As in Lightning's trainer. With several devices, ``strategy="ddp"`` and ``num_nodes``, processes train together: all have
            the same cells held out, the same centres and the same stage, and each goes through its share of the cells in
            minibatches of ``batch_size``. Every process needs the whole MuData, and has the trained model in the end.
        random_state
            Seed of minibatches, noise and k-means; ``None`` draws one. The global random state is put back afterwards, and
            trainings in several threads take turns, since it is the process's.
        progress_bar
            Show stage, epoch and loss.
        checkpoint
            Folder for the state of the training, made where it is not there. States are written at the ends of epochs, as often
            as makes the training 2 % longer. The same call on the same data, with a model made in the same way, goes on from
            the last one, and ends with the same weights to the bit. The last state stays: delete the folder when it is of no
            more use. Needs a ``random_state`` and one device. ``None``: no states are written.
        plan_kwargs
            Arguments of the training plan, as ``lr``, ``patience``, ``label_tolerance``.
        **trainer_kwargs
            Arguments of :class:`scvi.train.Trainer`, and those of scvi-tools' ``train``: ``validation_size``,
            ``shuffle_set_split``, ``datasplitter_kwargs``, ``load_sparse_tensor``. With ``early_stopping=False`` stages run all
            their epochs; ``early_stopping_patience`` is the ``patience`` and ``cluster_patience`` of the plan.

        Raises
        ------
        TypeError
            If an argument is unknown or of the wrong type.
        ValueError
            If an argument is out of range, or as :class:`~scmag_muon.model.TrainingDivergedError` if the loss or the network
            is no longer finite or explodes; or where ``checkpoint`` is of another run, or damaged.
        OSError
            Where ``checkpoint`` can't be written to, holds other files, or another process uses it.
        KeyboardInterrupt
            After Ctrl-C.
        """
        if self._query is not None:
            self._train_new_batches(max_epochs=max_epochs, batch_size=batch_size, random_state=random_state)
            return
        folder = check_folder(checkpoint, random_state)
        random_state = check_random_state(random_state)
        own = of_scvi_tools(trainer_kwargs, accelerator=accelerator, progress_bar=progress_bar)
        given = check_plan({**own["plan"], **(plan_kwargs or {})})
        check_run(
            max_epochs_pretrain=max_epochs_pretrain,
            max_epochs=max_epochs,
            batch_size=batch_size,
            accelerator=own["accelerator"],
            precision=precision,
        )
        check_devices(devices)
        strategy = strategy_of(trainer_kwargs.pop("strategy", None), devices, trainer_kwargs.get("num_nodes", 1))
        if strategy != "auto":
            if folder is not None:
                raise ValueError("`checkpoint` is for one device: set devices=1, and leave out `strategy`.")
            trainer_kwargs.setdefault("logger", [SimpleLogger()])  # scvi-tools would write the history to a file
        if max_epochs_pretrain + max_epochs == 0:
            raise ValueError("Nothing to train: `max_epochs_pretrain`=0 and `max_epochs`=0.")
        if self.module.clustering_started and max_epochs == 0:
            raise ValueError("Stage 3 has begun, so nothing is left to train with `max_epochs`=0.")
        if initial_labels is not None:
            initial_labels = _checked_labels(initial_labels, self.adata.n_obs)
            _check_profiles(initial_profiles, initial_labels)
        elif initial_profiles is not None:
            raise ValueError("`initial_profiles` are of communities: give these as `initial_labels`.")
        if given.get("plain_labels") is not None:
            given["plain_labels"] = _checked_plain(given["plain_labels"], initial_labels, len(self.module.centers))
        split = split_cells(self.adata.n_obs, train_size, random_state, **own["split"])
        # scvi-tools would draw its split without a seed
        splitter = {"external_indexing": split, **(trainer_kwargs.pop("datasplitter_kwargs", None) or {})}
        plan = {
            "n_epochs_pretrain": max_epochs_pretrain,
            "n_epochs_cluster": max_epochs,
            "kl_weight": self.kl_weight_,
            "cluster_weight": self.cluster_weight_,
            "initial_labels": initial_labels,
            "initial_profiles": initial_profiles,
            "optimizer_state": self.optimizer_state_,
            "random_state": random_state,
            "modalities": self.modalities_,
            **given,
        }
        callbacks = [*_as_list(trainer_kwargs.pop("callbacks", None)), SignalsAsBefore()]
        if own["progress_bar"]:
            callbacks.append(StageProgress((max_epochs_pretrain, max_epochs)))
        if folder is not None:
            start = [
                initial_labels,
                initial_profiles,
                plan.get("plain_labels"),
                splitter["external_indexing"],
                self.optimizer_state_,
            ]
            arguments = {"batch_size": batch_size, "precision": precision, **trainer_kwargs, **plan}
            made_from = fingerprint(self.adata_manager, self.module.state_dict(), start, arguments)
            callbacks.append(Checkpoint(folder, made_from))
        held_out = len(splitter["external_indexing"]) > 1 and len(splitter["external_indexing"][1])
        with held(folder), seeded(random_state), quiet(), interruptible(), self._all_or_nothing():
            before, self.history_, self.is_trained_ = self.history_, None, False
            self.module.train()  # scvi-tools leaves it in evaluation mode after a first call: no noise
            super().train(
                max_epochs=max_epochs_pretrain + max_epochs,
                accelerator=own["accelerator"],
                devices=devices,
                precision=precision,
                datasplitter_kwargs=splitter,
                limit_val_batches=1.0 if held_out else 0,
                batch_size=batch_size,
                plan_kwargs=plan,
                callbacks=callbacks,
                enable_progress_bar=False,
                strategy=strategy,
                **{"log_every_n_steps": 1, "check_val_every_n_epoch": 1, **trainer_kwargs},
            )
            self._clusters = None
            self._reference = None if self._reference is None else replace(self._reference, clusters=None)
            self.history_ = _joined(before, self.history_)
            self.optimizer_state_ = self.trainer.optimizers[0].state_dict()
            self.converged_ = self.trainer.lightning_module.converged

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Put network and records back where a training fails, and leave the network in evaluation mode."""
        weights = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        records = {name: getattr(self, name) for name in _RECORDS if hasattr(self, name)}
        device = self.device
        try:
            yield
        except BaseException:
            self.module.to(device)
            self.module.load_state_dict(weights)
            self.module.zero_grad()
            for name in _RECORDS:
                if name in records:
                    setattr(self, name, records[name])
                elif name in vars(self):
                    delattr(self, name)
            raise
        finally:
            self.module.eval()

    @property
    def training_history(self) -> pd.DataFrame:
        """A row per epoch, with ``stage``, each term of eq. 33, ``loss``, ``validation_loss`` and ``label_change``, missing before stage 3."""
        names = {f"reconstruction_{i}_train": f"reconstruction_{name}" for i, name in enumerate(self.modalities_)}
        names |= {
            "kl_train": "kl",
            "cluster_train": "cluster",
            "train_loss": "loss",
            "validation_loss": "validation_loss",
        }
        names |= {"stage": "stage", "label_change": "label_change"}
        columns = {new: self.history_[old].iloc[:, 0] for old, new in names.items() if old in self.history_}
        return pd.DataFrame(columns).astype(float).rename_axis("epoch")


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _joined(before: dict[str, pd.DataFrame] | None, now: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The history of several calls, each epoch with its number over all of them."""
    if not before:
        return now
    n_before = len(before["train_loss"])
    later = {name: table.set_axis(table.index + n_before, axis=0) for name, table in now.items()}
    names = [*before, *(name for name in later if name not in before)]
    joined = {}
    for name in names:
        joined[name] = pd.concat([part[name] for part in (before, later) if name in part])
        joined[name].index.name = "epoch"
    return joined


def _checked_labels(labels: np.ndarray, n_obs: int) -> np.ndarray:
    """Labels numbered without gaps, int32, column by column where there are several divisions."""
    labels = np.asarray(labels)
    integers = np.issubdtype(labels.dtype, np.integer)
    if labels.ndim not in (1, 2) or len(labels) != n_obs or not labels.size or not integers or labels.min() < 0:
        raise ValueError(f"`initial_labels` must hold an integer of at least 0 for each of {n_obs} cells.")
    return np.apply_along_axis(lambda column: np.unique(column, return_inverse=True)[1].astype(np.int32), 0, labels)


def _checked_plain(plain: Any, labels: np.ndarray | None, n_clusters: int) -> np.ndarray:
    plain = np.asarray(plain)
    integers = np.issubdtype(plain.dtype, np.integer)
    shape = None if labels is None else labels.reshape(len(labels), -1).shape
    if plain.shape != shape or not integers or plain.min() < 0 or plain.max() >= n_clusters:
        raise ValueError(
            f"`plain_labels` must hold integers from 0 to {n_clusters - 1}, a column for each division of `initial_labels`."
        )
    return plain


def _check_profiles(profiles: Sequence[np.ndarray] | None, labels: np.ndarray) -> None:
    if profiles is None:
        return
    wanted = [int(column.max()) + 1 for column in labels.reshape(len(labels), -1).T]
    if [len(profile) for profile in profiles] != wanted:
        raise ValueError(
            f"`initial_profiles` must hold an array for each division of `initial_labels`, with a row for each community: {wanted}."
        )
