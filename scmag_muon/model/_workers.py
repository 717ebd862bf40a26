"""Blocks of work within a training step, each done in one thread from beginning to end.

PyTorch spreads every operation over its threads and gathers them again. Where a product and what is computed from it come in
blocks that fit the cache, it is quicker to let each thread have blocks of its own.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Part = TypeVar("Part")
Result = TypeVar("Result")

# a forked process has the pool without its threads
_UNFORKED = os.getpid()


@cache
def _pool(n_others: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_others, "scmag-worker", initializer=partial(torch.set_num_threads, 1))


@contextlib.contextmanager
def _operations_in_one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def in_workers(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Results of ``work`` for all parts, in their order, without gradients, by as many threads as PyTorch uses.

    The calling thread does its share, so that work begins at once; who is done first takes the next part.
    """
    n_threads = min(torch.get_num_threads(), len(parts)) if os.getpid() == _UNFORKED else 1
    if n_threads == 1:
        with torch.no_grad():
            return [work(part) for part in parts]
    results: dict[int, Result] = {}
    left = iter(enumerate(parts))

    def take() -> None:
        with torch.no_grad():
            for i, part in left:
                results[i] = work(part)

    with _operations_in_one_thread():
        others = [_pool(n_threads - 1).submit(take) for _ in range(n_threads - 1)]
        take()
        for other in others:
            other.result()
    return [results[i] for i in range(len(parts))]
