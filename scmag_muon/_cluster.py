"""Blocks of rows as tasks of a dask.distributed cluster, where a client is active."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from scmag_muon.manifold.threads import blocks_by, products_in_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger(__name__)

_TASKS_PER_THREAD = 4


@contextlib.contextmanager
def blocks_on_cluster() -> Iterator[None]:
    """Give blocks of rows to the workers of the active client; where there is none, to the threads of this process."""
    client = active_client()
    n_threads = 0 if client is None else sum(client.nthreads().values())
    if not n_threads:
        yield
        return
    logger.info("Blocks of rows go to the %d threads of the cluster %s.", n_threads, client.scheduler.address)
    with blocks_by(partial(_as_tasks, client, _TASKS_PER_THREAD * n_threads)):
        yield


def active_client() -> Any:
    """The client that the user has started; ``None`` without one, and within a task, which would wait for its own worker."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    with contextlib.suppress(ValueError):
        distributed.get_worker()
        return None
    with contextlib.suppress(ValueError):
        return distributed.default_client()
    return None


def _as_tasks(client: Any, n_tasks: int, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """Results of ``work`` for all parts, in their order; what it needs is sent to each worker once."""
    at_once = math.ceil(len(parts) / n_tasks)
    tasks = [parts[start : start + at_once] for start in range(0, len(parts), at_once or 1)]
    sent = client.scatter(work, broadcast=True, hash=False)
    return [result for results in client.gather(client.map(_done, tasks, work=sent, pure=False)) for result in results]


def _done(parts: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
    with products_in_one_thread():
        return [work(part) for part in parts]
