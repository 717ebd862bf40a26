"""Checkpoints of a training: its whole state in one file, from which the same call goes on as if it had never stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import Callback
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scmag_muon._files import written_aside
from scmag_muon._mudata import FittedLayer
from scmag_muon.model._codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scvi.data import AnnDataManager

    from scmag_muon.model._training import SCMAGTrainingPlan

logger = logging.getLogger(__name__)

FILE = "checkpoint.safetensors"
LOCK = f".{FILE}-lock"
FORMAT_VERSION = 1
_SHARE_OF_TIME = 0.02
_WHAT = {
    "data": "the cells, counts, fit or batches",
    "network": "the network at the start",
    "start": "the cells held out or the start of the clusters",
}


def check_folder(folder: str | os.PathLike[str] | None, random_state: int | None) -> Path | None:
    """The folder, which can be written to or made, and in which nothing but a checkpoint lies; ``None`` where none is asked for.

    Raises
    ------
    TypeError
        Where it is no path.
    ValueError
        Where the seed is drawn, so that no call can repeat the run.
    OSError
        Where it is a file, can't be made or written to, holds other files, or another process uses it.
    """
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"`checkpoint` must be the path of a folder, or None, got {type(folder).__name__}.")
    if random_state is None:
        raise ValueError("`checkpoint` needs a seed, with which the same call can go on: set random_state=0.")
    path = Path(folder).expanduser().resolve()
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise FileExistsError(f"`checkpoint` must be a folder, and {str(there)!r} is a file. Name a folder.")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise type(error)(
            f"`checkpoint` {str(path)!r} can't be written to ({error.strerror}). Name a folder of your own."
        ) from error
    others = sorted(each.name for each in path.glob("*") if each.name != FILE and not each.name.startswith(f".{FILE}-"))
    if others:
        raise FileExistsError(
            f"`checkpoint` {str(path)!r} holds {len(others)} files that are no checkpoint, among them {others[0]!r}. "
            f"Name a folder for the checkpoint alone, as {str(path / 'checkpoint')!r}."
        )
    if (path / LOCK).exists():
        with held(path):
            pass
    return path


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Keep the folder from other processes meanwhile; the system lets go of it where this one is killed.

    Raises
    ------
    OSError
        Where another process holds it.
    """
    if folder is None:
        yield
        return
    made, lock = not folder.exists(), FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"Another training is under way with the checkpoint {str(folder)!r}: two would write over each other's state. "
            "Name another folder, or wait until the other has ended."
        ) from error
    except (OSError, NotImplementedError) as error:
        logger.warning(
            "`checkpoint` %s can't be kept from other processes (%s): use it in one at a time.", folder, error
        )
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            if made:
                folder.rmdir()


def forget(folder: str | os.PathLike[str]) -> None:
    """Delete the checkpoint, and the folder where nothing else lies in it."""
    path = Path(folder).expanduser()
    for name in (FILE, LOCK):
        (path / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()


def fingerprint(
    manager: AnnDataManager, network: Mapping[str, torch.Tensor], start: Any, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What a training was made from, to the bit: data in their order, network, start of the clusters, arguments."""
    data = [manager.get_from_registry(key) for key in sorted(manager.data_registry)]
    plain = {name: value for name, value in arguments.items() if isinstance(value, str | int | float | None)}
    return {"data": _digest(data), "network": _digest(list(network.values())), "start": _digest(start), **plain}


class Checkpoint(Callback):
    """Write the state of the training at the ends of epochs, and go on from the one that is there.

    States are written as often as makes a training 2 % longer: after an epoch when fifty times as long has passed since the
    last one as that took. The file is written aside and renamed, so that it is always whole.

    Parameters
    ----------
    folder
        As :func:`check_folder` gives it.
    made_from
        :func:`fingerprint` of this call.
    """

    def __init__(self, folder: Path, made_from: dict[str, Any]) -> None:
        self.path = folder / FILE
        self.made_from = made_from
        self.rest = 0.0
        self.last = time.monotonic()
        self.state: dict[str, Any] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Read the state that is there, and go on with the number of its epoch."""
        if trainer.world_size > 1:
            raise ValueError("`checkpoint` is for one device: set devices=1.")
        for left in self.path.parent.glob(f".{FILE}-*"):  # of a process that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        self.made_from["accelerator"] = trainer.strategy.root_device.type
        if self.path.exists():
            self.state = self._read()
            trainer.fit_loop.epoch_progress.current.processed = self.state["epoch"]

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Before the first epoch take the state up; before others write it, with all that the last epoch has logged."""
        if self.state is not None:
            _take_up(self.state, trainer, pl_module)
            logger.info(
                "Resumed from the end of epoch %d, in stage %d, by %s.", self.state["epoch"], pl_module.stage, self.path
            )
            if self.state.get("threads", torch.get_num_threads()) != torch.get_num_threads():
                logger.warning(
                    "The checkpoint was written with %d threads of torch, and there are %d: clusters and coordinates may differ in "
                    "their last digits from those of a run that nothing stopped. torch.set_num_threads(%d) gives the same.",
                    self.state["threads"],
                    torch.get_num_threads(),
                    self.state["threads"],
                )
            self.state = None
        elif trainer.current_epoch > 0 and time.monotonic() - self.last >= self.rest:
            self._write(_state(trainer, pl_module))

    def _write(self, state: dict[str, Any]) -> None:
        begun = time.monotonic()
        tensors: dict[str, torch.Tensor] = {}
        content = json.dumps(pack({"made_from": self.made_from, **state}, "state", tensors))
        header = {"format_version": str(FORMAT_VERSION), "state": content, "sha256": _digest([tensors, content])}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(self.path) as draft:
                save_file(tensors, draft, metadata=header)
        except (OSError, SafetensorError) as error:
            logger.warning("Epoch %d: the checkpoint %s could not be written: %s.", state["epoch"], self.path, error)
        self.last = time.monotonic()
        self.rest = (self.last - begun) / _SHARE_OF_TIME

    def _read(self) -> dict[str, Any]:
        another = "Name another folder, or delete the file to start anew."
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            version, content = int(header["format_version"]), header["state"]
            if version == FORMAT_VERSION and header["sha256"] != _digest([tensors, content]):
                raise ValueError("its checksum is another")
            state = unpack(json.loads(content), tensors) if version == FORMAT_VERSION else {}
        except (KeyError, ValueError, SafetensorError) as error:
            raise ValueError(f"The checkpoint {str(self.path)!r} is damaged ({error}). {another}") from error
        if version != FORMAT_VERSION:
            raise ValueError(f"The checkpoint {str(self.path)!r} is of another version of scmag-muon. {another}")
        made_from = state["made_from"]
        differences = [
            _difference(name, made_from.get(name), self.made_from.get(name))
            for name in {**self.made_from, **made_from}
            if made_from.get(name) != self.made_from.get(name)
        ]
        if differences:
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is of another run: {'; '.join(differences)}. "
                f"Repeat the call as it was to go on with that run. {another}"
            )
        return state


def _difference(name: str, before: Any, now: Any) -> str:
    return f"{_WHAT[name]} differ" if name in _WHAT else f"`{name}` was {before!r} and is {now!r}"


def _state(trainer: Any, plan: SCMAGTrainingPlan) -> dict[str, Any]:
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    device = plan.device
    return {
        "epoch": trainer.current_epoch,
        "threads": torch.get_num_threads(),
        "module": dict(plan.module.state_dict()),
        "optimizer": trainer.optimizers[0].state_dict(),
        "precision": trainer.precision_plugin.state_dict(),
        "progress": plan.progress(),
        "history": trainer.logger.history,
        "noise": [(noise.drawn, noise.n_uses) for noise in plan.module.encoder.noise],
        "random": torch.random.get_rng_state(),
        "random_of_device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
        "random_of_numpy": numpy | {"state": numpy["state"] | {"key": numpy["state"]["key"].astype(np.int64)}},
    }


def _take_up(state: dict[str, Any], trainer: Any, plan: SCMAGTrainingPlan) -> None:
    device = plan.device
    plan.module.load_state_dict(state["module"])
    trainer.optimizers[0].load_state_dict(state["optimizer"])
    trainer.precision_plugin.load_state_dict(state["precision"])
    plan.take_up(state["progress"])
    trainer.logger.experiment.data.update(state["history"])
    for noise, (drawn, n_uses) in zip(plan.module.encoder.noise, state["noise"], strict=True):
        noise.drawn, noise.n_uses = drawn.to(device), n_uses
    torch.random.set_rng_state(state["random"])
    if state["random_of_device"] is not None:
        torch.get_device_module(device).set_rng_state(state["random_of_device"])
    np.random.set_state(state["random_of_numpy"])  # noqa: NPY002


def _digest(value: Any) -> str:
    sums = hashlib.sha256()
    _add(sums, value)
    return sums.hexdigest()


def _add(sums: Any, value: Any) -> None:
    if isinstance(value, dict):
        for name in sorted(value):
            _add(sums, [name, value[name]])
    elif isinstance(value, list | tuple):
        sums.update(f"{len(value)}".encode())
        for item in value:
            _add(sums, item)
    elif isinstance(value, FittedLayer):
        _add(sums, [value.mask, *value.rows.parts()])
    elif sp.issparse(value):
        counts = value.tocsr()
        _add(sums, [counts.shape, counts.indptr.astype(np.int64), counts.indices.astype(np.int64), counts.data])
    elif isinstance(value, str) or value is None or np.isscalar(value):
        sums.update(repr(value).encode())
    else:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        sums.update(f"{array.shape}{array.dtype}".encode())
        sums.update(np.ascontiguousarray(array).data)
