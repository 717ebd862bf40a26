"""Nearest cells of the reference, with their distances."""

from __future__ import annotations

import threading

import numpy as np

from scmag_muon.manifold.neighbors import nearest_in, nearest_neighbors

_BLOCK = 50_000


class Neighbors:
    """Nearest reference cells of some cells and of the reference's own, sought once for all that ask, also from several threads.

    Parameters
    ----------
    x, reference
        Where the cells and the reference's cells are, ``(n_new, n_components)`` and ``(n_reference, n_components)``.
    """

    def __init__(self, x: np.ndarray, reference: np.ndarray) -> None:
        self.x = np.ascontiguousarray(x, dtype=np.float32)
        self.reference = np.ascontiguousarray(reference, dtype=np.float32)
        self._lock = threading.Lock()
        self._nearest = self._others = (np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))

    def nearest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As :func:`nearest_with_distance`."""
        with self._lock:
            if self._nearest[0].shape[1] < min(k, len(self.reference)):
                self._nearest = nearest_with_distance(self.x, self.reference, k)
            return self._nearest[0][:, :k], self._nearest[1][:, :k]

    def others(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As :func:`others_with_distance`."""
        with self._lock:
            if self._others[0].shape[1] < min(k, len(self.reference) - 1):
                self._others = others_with_distance(self.reference, k)
            return self._others[0][:, :k], self._others[1][:, :k]


def nearest_with_distance(x: np.ndarray, reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the ``k`` nearest reference cells of each row of ``x``, and squared distances, each ``(n_new, k)``."""
    found = nearest_in(x, reference, k)
    return found, _squared(x, reference, found)


def others_with_distance(reference: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of each reference cell without itself."""
    found = nearest_neighbors(reference, k + 1)[:, 1:]
    return found, _squared(reference, reference, found)


def _squared(x: np.ndarray, reference: np.ndarray, table: np.ndarray) -> np.ndarray:
    result = np.empty(table.shape, dtype=np.float32)
    step = max(1, _BLOCK // max(table.shape[1], 1))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        result[rows] = np.square(x[rows, None] - reference[table[rows]]).sum(axis=2)
    return result
