"""Work that is spread over threads: NumPy and SciPy let go of the interpreter while they compute.

NumPy's own threads wait for each other within every matrix product, which costs very much on busy cores. Here each thread
has blocks of its own, and products run in the thread that calls them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from scmag_muon.manifold.scratch import ENTRIES_AT_A_TIME, rows_between

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager, _GeneratorContextManager

    import scipy.sparse as sp

Part = TypeVar("Part")
Result = TypeVar("Result")


def n_threads() -> int:
    """Cores that this process may use, or fewer where ``OMP_NUM_THREADS`` says so, as for NumPy."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(allowed, int(asked))) if asked.isdecimal() else allowed


def shared_by_threads(
    make: Callable[[], AbstractContextManager[None]],
) -> Callable[[], _GeneratorContextManager[None]]:
    """Make a context that changes a state of the whole process safe in threads.

    The first thread that enters makes the change, the last that leaves takes it back. Where each did so for itself, a thread
    that enters while another is inside would take the other's change for the state to put back.
    """
    lock = threading.Lock()
    depth = 0
    inside = contextlib.ExitStack()

    @wraps(make)
    @contextlib.contextmanager
    def enter() -> Iterator[None]:
        nonlocal depth
        with lock:
            if depth == 0:
                inside.enter_context(make())
            depth += 1
        try:
            yield
        finally:
            with lock:
                depth -= 1
                if depth == 0:
                    inside.close()

    return enter


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


class _Limited:
    """How many threads are in :func:`products_in_one_thread`, and the BLAS threads before the first of them."""

    lock = threading.Lock()
    n_inside = 0
    before: ClassVar[dict[str, int]] = {}


@contextlib.contextmanager
def products_in_one_thread() -> Iterator[None]:
    """Keep NumPy's matrix products and decompositions in the thread that calls them."""
    controller = _controller()
    with _Limited.lock:
        if _Limited.n_inside == 0:
            _Limited.before = {each["filepath"]: each["num_threads"] for each in controller.info()}
        _Limited.n_inside += 1
    try:
        with controller.limit(limits=1, user_api="blas"):
            yield
    finally:
        with _Limited.lock:
            _Limited.n_inside -= 1
            if _Limited.n_inside == 0:
                # a thread that came while another was inside has put back the other's limit
                controller.limit(limits=_Limited.before)
                with controller.limit():  # gives up the control that threadpoolctl has noted for this thread
                    pass


def in_threads(work: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """Results of ``work`` for all parts, in their order. A pool of its own each time, so that a fork finds none half dead."""
    threads = n_threads()
    if threads == 1:
        return [work(part) for part in parts]
    with products_in_one_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


_BLOCKS_BY: ContextVar[Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]] | None] = ContextVar(
    "_BLOCKS_BY", default=None
)


@contextlib.contextmanager
def blocks_by(do: Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]) -> Iterator[None]:
    """Let ``do`` give the results of :func:`in_blocks` meanwhile, as of a function for all parts in their order."""
    token = _BLOCKS_BY.set(do)
    try:
        yield
    finally:
        _BLOCKS_BY.reset(token)


def in_blocks(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """As :func:`in_threads`, of work that does nothing but return its result, and so can be done elsewhere (:func:`blocks_by`)."""
    do = _BLOCKS_BY.get()
    return in_threads(work, parts) if do is None or len(parts) < 2 else do(work, parts)


def elsewhere() -> bool:
    """Whether :func:`in_blocks` is done elsewhere, where nothing that is here can be written to."""
    return _BLOCKS_BY.get() is not None


def row_parts(matrix: sp.csr_array) -> list[slice]:
    """Blocks of rows with as many entries each: one for each thread, or more where there are many entries.

    SciPy copies the entries of a transposed block, so none may be large.
    """
    n_parts = max(n_threads(), -(-matrix.nnz // ENTRIES_AT_A_TIME))
    cuts = np.searchsorted(matrix.indptr, np.linspace(0, matrix.nnz, n_parts + 1)[1:-1])
    bounds = [0, *cuts.tolist(), matrix.shape[0]]
    return [slice(start, stop) for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def product(matrix: sp.csr_array, parts: Sequence[slice], x: np.ndarray) -> np.ndarray:
    """Product with a dense matrix, by the blocks of :func:`row_parts`."""
    return np.concatenate(in_threads(lambda rows: rows_between(matrix, rows.start, rows.stop) @ x, parts))


def transposed_product(matrix: sp.csr_array, parts: Sequence[slice], x: np.ndarray) -> np.ndarray:
    """Product of the transpose with a dense matrix, by the blocks of :func:`row_parts`."""
    return np.sum(in_threads(lambda rows: rows_between(matrix, rows.start, rows.stop).T @ x[rows], parts), axis=0)
