"""Training steps on a GPU, recorded once and replayed: a step is so short that it would wait for Python."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

logger = logging.getLogger(__name__)

_FIRST = 3


def can_record(trainer: Any) -> bool:
    """Whether a step is nothing but the network's and the optimiser's work on one GPU, in single precision."""
    return (
        trainer.strategy.root_device.type == "cuda"
        and trainer.world_size == 1
        and trainer.precision == "32-true"
        and trainer.gradient_clip_val is None
        and trainer.accumulate_grad_batches == 1
    )


class RecordedSteps:
    """Work on minibatches of one size, recorded as a CUDA graph after three of them. Others are worked on as they come.

    What the work reads and changes, parameters, gradients and the optimiser's state, must stay where it is in memory. Work that
    fetches a value from the GPU can't be recorded: it is then done as it comes. Random numbers are new in each step.

    Parameters
    ----------
    work
        Forward, backward and the optimiser's step on one minibatch; gives what is to be known of it.
    """

    def __init__(self, work: Callable[[dict[str, Tensor]], Tensor]) -> None:
        self.work = work
        self._can_be_recorded = True
        self.forget()

    def forget(self) -> None:
        """Record anew: what a step does has changed, with its stage or its learning rate."""
        self._n_plain = 0
        self._held: dict[str, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """What ``work`` gives, which the next call overwrites."""
        if not self._can_be_recorded:
            return self.work(batch)
        if not self._held:
            self._held = {key: value.clone() for key, value in batch.items()}
        if any(value.shape != self._held[key].shape for key, value in batch.items()):
            return self.work(batch)
        for key, value in batch.items():
            self._held[key].copy_(value)
        if self._graph is None and self._n_plain < _FIRST:  # libraries settle meanwhile
            self._n_plain += 1
            return self._aside() if self._n_plain < _FIRST else self._tried()
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._values = self.work(self._held)
        self._graph.replay()
        return self._values

    def _tried(self) -> Tensor:
        """The last step before the recording, which a value that is fetched would break off half-way."""
        try:
            with _nothing_fetched():
                return self._aside()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            logger.info("Training steps are not recorded on this GPU, since they wait for it: %s", error)
            self._can_be_recorded = False
            return self.work(self._held)

    def _aside(self) -> Tensor:
        """The work in a stream of its own, as it will be recorded."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            values = self.work(self._held)
        torch.cuda.current_stream().wait_stream(stream)
        return values


@contextlib.contextmanager
def _nothing_fetched() -> Iterator[None]:
    """Raise where the CPU would wait for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype feature")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
