"""What surrounds a training: which cells, which seed, which noise to keep from the user."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from scmag_muon.manifold.threads import shared_by_threads

if TYPE_CHECKING:
    from collections.abc import Iterator


def split_cells(n_obs: int, train_size: float, random_state: int | None) -> list[np.ndarray]:
    """Cells to train on, to validate on, to test on (none)."""
    if not 0 < train_size <= 1:
        raise ValueError(f"`train_size` must lie in (0, 1], got {train_size}.")
    order = np.random.default_rng(random_state).permutation(n_obs)
    n_train = max(round(train_size * n_obs), 1)
    return [order[:n_train], order[n_train:], np.array([], dtype=int)]


_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def seeded(random_state: int) -> Iterator[None]:
    """Seed what torch and scvi-tools' data splitter read, and put the global states back afterwards.

    The states are those of the process, so that another thread waits until they are free.
    """
    with _ONE_AT_A_TIME, torch.random.fork_rng():
        state = np.random.get_state()  # noqa: NPY002
        torch.manual_seed(random_state)
        np.random.seed(random_state)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


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
            # scvi-tools thinks of batch normalisation, which we do without
            warnings.filterwarnings("ignore", message=".*Last batch will have a small size.*")
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
