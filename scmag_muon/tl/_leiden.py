"""Leiden communities of one graph, again and again: as ``scanpy.tl.leiden`` finds them, which would build igraph's graph each time."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

import igraph
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import scipy.sparse as sp

_N_ITERATIONS = 2


class Leiden:
    """The graph as igraph has it, with an edge for each entry of a symmetric matrix that is not zero."""

    def __init__(self, graph: sp.csr_array) -> None:
        entries = graph.tocoo()
        edges = np.column_stack(entries.coords).astype(np.int64)[entries.data != 0]
        self.graph = igraph.Graph(n=graph.shape[0], edges=edges, directed=False)
        self.graph.es["weight"] = entries.data[entries.data != 0]

    def __call__(self, resolution: float, random_state: int | None) -> np.ndarray:
        """Communities at a resolution, integers from 0, shape ``(n_obs,)``; the same as of scanpy to the last cell."""
        with _numbers_from(random_state or 0):
            found = self.graph.community_leiden(
                objective_function="modularity", weights="weight", resolution=resolution, n_iterations=_N_ITERATIONS
            )
        return np.array(found.membership)


class _Numbers:
    """What igraph asks of Python's ``random``, in the order in which scanpy draws it."""

    def __init__(self, seed: int) -> None:
        rng = np.random.RandomState(seed)
        self._tomaxint, self._randint = rng.tomaxint, rng.randint
        self.random, self.gauss = rng.random_sample, rng.normal

    def getrandbits(self, k: int) -> int:
        return int(self._tomaxint()) & ((1 << k) - 1)

    def randint(self, low: int, high: int) -> int:
        return int(self._randint(low, high + 1))


@contextlib.contextmanager
def _numbers_from(seed: int) -> Iterator[None]:
    numbers: Any = _Numbers(seed)
    try:
        igraph.set_random_number_generator(numbers)
        yield
    finally:
        igraph.set_random_number_generator(random)
