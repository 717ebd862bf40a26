"""How unlike the reference a cell is."""

from __future__ import annotations

import numpy as np

from scmag_muon.transfer._neighbors import nearest_with_distance, others_with_distance

_NEIGHBORS = 15
_QUANTILE = 0.99


def unlikeness(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""How far cells lie from the reference; 1 is what one in a hundred of the reference's own cells exceeds, ``(n_new,)``.

    The mean distance :math:`d` to the 15 nearest reference cells is divided by :math:`\sqrt{l m}`: l is the mean of the same distance of
    these 15 cells to *their* neighbours, m its median over the reference. So a sparse type is not taken for unlike as a whole, nor a
    dense one held to a far stricter standard. The same number is computed of each reference cell without itself, and the 99th
    percentile of those is the unit.

    Parameters
    ----------
    x
        Coordinates of the cells, ``(n_new, n_components)``.
    reference
        Coordinates of the reference's cells, ``(n_obs, n_components)``.
    """
    k = min(_NEIGHBORS, len(reference) - 1)
    if k < 1:
        return np.zeros(len(x))
    others, squared = others_with_distance(reference, k)
    own = np.maximum(np.sqrt(squared).mean(axis=1, dtype=np.float64), 1e-9)
    typical = np.median(own)
    unit = np.quantile(own / np.sqrt(own[others].mean(axis=1) * typical), _QUANTILE)
    found, squared = nearest_with_distance(x, reference, k)
    distance = np.sqrt(squared).mean(axis=1, dtype=np.float64)
    return np.asarray(distance / np.sqrt(own[found].mean(axis=1) * typical) / unit)
