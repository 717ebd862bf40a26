"""What surrounds a training: which cells, which seed, which noise to keep from the user."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from scmag_muon._checks import check_choice, check_number
from scmag_muon.manifold.threads import shared_by_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


def split_cells(
    n_obs: int,
    train_size: float,
    random_state: int,
    *,
    validation_size: float | None = None,
    shuffle_set_split: bool = True,
) -> list[np.ndarray]:
    """Cells to train on, to validate on, and those left over."""
    train_size = check_number("train_size", train_size, above=0, high=1)
    validation_size = check_number("validation_size", validation_size, low=0, high=1, optional=True)
    if validation_size is not None and train_size + validation_size > 1 + 1e-9:
        raise ValueError(f"`train_size` + `validation_size` must be at most 1, got {train_size} + {validation_size}.")
    check_choice("shuffle_set_split", shuffle_set_split, (True, False))
    order = np.random.default_rng(random_state).permutation(n_obs) if shuffle_set_split else np.arange(n_obs)
    n_train = max(round(train_size * n_obs), 1)
    n_validation = n_obs - n_train if validation_size is None else min(round(validation_size * n_obs), n_obs - n_train)
    return [order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :]]


_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def seeded(random_state: int) -> Iterator[None]:
    """Seed what torch and scvi-tools' data splitter read, in single precision, and put the global states back afterwards.

    The states are those of the process, so that another thread waits until they are free.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng(), torch.inference_mode(mode=False):
        state, dtype = np.random.get_state(), torch.get_default_dtype()  # noqa: NPY002
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(random_state)
        np.random.seed(random_state)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
            torch.set_default_dtype(dtype)


@shared_by_threads
@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the messages of Lightning and scvi-tools, and warnings that don't concern the user, to ourselves."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "scvi")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Lightning's own use of a renamed torch class, and its advice on data-loading workers
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # who names a device means it
            warnings.filterwarnings("ignore", message=".*available but not used.*")
            # scvi-tools thinks of batch normalisation, which we do without
            warnings.filterwarnings("ignore", message=".*Last batch will have a small size.*")
            warnings.filterwarnings("ignore", message=".*has fewer than 3 cells.*")
            warnings.filterwarnings("ignore", message=".*all_gather is deprecated")
            # of several processes: stages end by themselves, and the gate takes part in stage 3 alone
            warnings.filterwarnings("ignore", message="early_stopping was automatically disabled")
            warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Hand Ctrl-C to the caller as ``KeyboardInterrupt``, and put the handler of it back.

    Lightning catches it, ignores further ones for the rest of the process, and leaves by ``SystemExit``.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt) and _came_from_interrupt(error):
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGINT, handler)


def _came_from_interrupt(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


class SignalsAsBefore(Callback):
    """SIGTERM does what it did before: Lightning would wait for the end of the minibatch, and leave as if all were well."""

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the handler back that Lightning has replaced."""
        if threading.current_thread() is threading.main_thread() and self.handler is not None:
            signal.signal(signal.SIGTERM, self.handler)
