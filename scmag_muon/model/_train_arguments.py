"""What :meth:`SCMAG.train` is given: checked, and scvi-tools' names put into its own."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from scvi.train import SaveCheckpoint, Trainer
from scvi.train._logger import SimpleLogger

from scmag_muon._checks import check_choice, check_names, check_number

if TYPE_CHECKING:
    from collections.abc import Mapping

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu")
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", 32)
_AT_LEAST_ZERO = ("lr", "cluster_lr", "weight_decay", "kl_weight", "cluster_weight", "profile_weight")
_PLAN = (
    *_AT_LEAST_ZERO,
    "eps",
    "patience",
    "cluster_patience",
    "label_tolerance",
    "join_overlapping",
    "n_unfitted",
    "plain_labels",
    "record_steps",
)
_STAGES_END = "Stages end by themselves: set `patience`, `label_tolerance` or `cluster_patience` in plan_kwargs."
_SAVE = "The loss is lowest before there are clusters: call save() after training, from where a second train() goes on."
_REFUSED_BY_PLAN = dict.fromkeys(
    ("n_epochs_kl_warmup", "n_steps_kl_warmup", "max_kl_weight", "min_kl_weight"),
    "The KL divergence comes in with stage 2: set `kl_weight`.",
) | dict.fromkeys(
    ("reduce_lr_on_plateau", "lr_factor", "lr_patience", "lr_threshold", "lr_min", "lr_scheduler_metric"),
    "The learning rates are `lr` (stages 1 and 2) and `cluster_lr` (stage 3).",
)
_REFUSED = dict.fromkeys(
    ("early_stopping_monitor", "early_stopping_min_delta", "early_stopping_mode", "early_stopping_warmup_epochs"),
    _STAGES_END,
) | {
    "datamodule": "SCMAG trains on the MuData that it was made with.",
    "limit_val_batches": "Set `train_size` or `validation_size`.",
    "checkpointing_monitor": _SAVE,
    "simple_progress_bar": "Set `progress_bar`.",
    "progress_bar_refresh_rate": "Set `progress_bar`.",
}


def check_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the training plan that a user may give, as plain numbers.

    Raises
    ------
    TypeError
        If a name is unknown, or has no effect here, or a value is of the wrong type.
    ValueError
        If a value is out of range.
    """
    for name, advice in _REFUSED_BY_PLAN.items():
        if name in plan:
            raise TypeError(f"{name!r} in plan_kwargs has no effect here. {advice}")
    check_names("plan_kwargs", plan, _PLAN)
    checked = dict(plan)
    for name in set(plan) & set(_AT_LEAST_ZERO):
        checked[name] = check_number(name, plan[name], low=0)
    if "n_unfitted" in plan:
        checked["n_unfitted"] = check_number("n_unfitted", plan["n_unfitted"], integer=True, low=0)
    if "eps" in plan:
        checked["eps"] = check_number("eps", plan["eps"], above=0)
    if "label_tolerance" in plan:
        checked["label_tolerance"] = check_number("label_tolerance", plan["label_tolerance"], low=0, high=1)
    if "patience" in plan:
        checked["patience"] = check_number("patience", plan["patience"], integer=True, low=1)
    if "cluster_patience" in plan:
        checked["cluster_patience"] = check_number(
            "cluster_patience", plan["cluster_patience"], integer=True, low=1, optional=True
        )
    for name in {"join_overlapping", "record_steps"} & set(plan):
        check_choice(name, plan[name], (True, False))
    return checked


def check_run(*, max_epochs_pretrain: Any, max_epochs: Any, batch_size: Any, accelerator: Any, precision: Any) -> None:
    """Refuse numbers of epochs and cells, processors and precisions that are none."""
    check_number("max_epochs_pretrain", max_epochs_pretrain, integer=True, low=0)
    check_number("max_epochs", max_epochs, integer=True, low=0)
    check_number("batch_size", batch_size, integer=True, low=1)
    if isinstance(accelerator, str):
        check_choice("accelerator", accelerator, _ACCELERATORS)
    check_choice("precision", precision, _PRECISIONS)


def check_devices(devices: Any) -> None:
    """Refuse devices that Lightning would stumble over."""
    if isinstance(devices, int) and not isinstance(devices, bool):
        if devices == 0 or devices < -1:
            raise ValueError(f'`devices` must be a number of at least 1, -1 for all, a list or "auto", got {devices}.')
    elif isinstance(devices, str):
        if devices != "auto" and not devices.replace(",", "").lstrip("-").isdecimal():
            raise ValueError(
                f'`devices` must be a number of at least 1, -1 for all, a list or "auto", got {devices!r}.'
            )
    elif not isinstance(devices, list | tuple):
        raise TypeError(f'`devices` must be a number of at least 1, -1 for all, a list or "auto", got {devices!r}.')


def of_scvi_tools(given: dict[str, Any], *, accelerator: str, progress_bar: bool) -> dict[str, Any]:
    """Take scvi-tools' names out of ``given``, and return what they mean here.

    Returns
    -------
    ``accelerator``, ``progress_bar``, ``plan`` (arguments of the plan), ``split`` (of the splitting of cells). What is left in
    ``given`` is the trainer's.
    """
    for name, advice in _REFUSED.items():
        if name in given:
            raise TypeError(f"SCMAG.train has no {name!r}. {advice}")
    callbacks = given.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list | tuple) else [callbacks]:
        if isinstance(callback, SaveCheckpoint):
            raise TypeError(f"SCMAG.train has no SaveCheckpoint. {_SAVE}")
    if given.get("enable_checkpointing"):
        raise TypeError(f"SCMAG.train has no enable_checkpointing=True. {_SAVE}")
    given |= {**dict(given.pop("trainer_config", None) or {}), **given}
    plan = dict(given.pop("plan_config", None) or {})
    if "use_gpu" in given:
        accelerator = "gpu" if given.pop("use_gpu") else "cpu"
    progress_bar = bool(given.pop("enable_progress_bar", progress_bar))
    early_stopping = given.pop("early_stopping", True)
    check_choice("early_stopping", early_stopping, (True, False))
    if not early_stopping:
        plan = {"patience": 2**31, "cluster_patience": None, "label_tolerance": 0.0, **plan}
    if "early_stopping_patience" in given:
        patience = given.pop("early_stopping_patience")
        plan = {"patience": patience, "cluster_patience": patience, **plan}
    if "check_val_every_n_epoch" in given:
        check_number("check_val_every_n_epoch", given["check_val_every_n_epoch"], integer=True, low=1, optional=True)
        given["check_val_every_n_epoch"] = given["check_val_every_n_epoch"] or 1
    if given.get("limit_train_batches", 1) == 0:
        raise ValueError("`limit_train_batches` is 0: nothing would be trained.")
    split = {name: given.pop(name) for name in ("validation_size", "shuffle_set_split") if name in given}
    if "logger" in given:
        given["logger"] = _with_history(given["logger"])
    known = {name for cls in (Trainer, pl.Trainer) for name in inspect.signature(cls.__init__).parameters}
    known = known - {"self", "kwargs"} | {"load_sparse_tensor", "ckpt_path"}
    check_names("SCMAG.train", given, known)
    return {"accelerator": accelerator, "progress_bar": progress_bar, "plan": plan, "split": split}


def _with_history(logger: Any) -> list[Any]:
    """The user's loggers behind the one that keeps the history."""
    if logger is None or isinstance(logger, bool):
        return [SimpleLogger()]
    return [SimpleLogger(), *(logger if isinstance(logger, list | tuple) else [logger])]
