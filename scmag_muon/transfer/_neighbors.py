"""Nearest cells of the reference, with their distances."""

from __future__ import annotations

import numpy as np

from scmag_muon.manifold.neighbors import nearest_in, nearest_neighbors

_BLOCK = 50_000


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
