"""Gaussian and polynomial kernels and the distance that each of them induces (paper, eq. 4)."""

from __future__ import annotations

from typing import Literal

import numpy as np

Kernel = Literal["rbf", "poly"]

POLY_DEGREE = 2
POLY_OFFSET = 1.0


def rbf(a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    r"""Gaussian kernel :math:`\exp(-\|a_i - b_j\|^2 / 2\sigma^2)`, shape ``(len(a), len(b))``; ``scale`` is σ."""
    return np.exp(-squared_euclidean(a, b) / (2 * scale**2))


def polynomial(a: np.ndarray, b: np.ndarray, *, gamma: float = 1.0) -> np.ndarray:
    r"""Polynomial kernel :math:`(\gamma\, a_i^T b_j + c)^d` with c = 1, d = 2, shape ``(len(a), len(b))``."""
    return (gamma * (a @ b.T) + POLY_OFFSET) ** POLY_DEGREE


def squared_euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, shape ``(len(a), len(b))``."""
    distance = -2 * (a @ b.T)
    distance += np.einsum("ij,ij->i", a, a)[:, None]
    distance += np.einsum("ij,ij->i", b, b)[None, :]
    return np.maximum(distance, 0, out=distance)


def poly_gamma(x: np.ndarray) -> float:
    """Scale of the inner products, 1 over the mean squared norm, so that the offset c counts the same for every data set."""
    return float(1.0 / max(np.einsum("ij,ij->", x, x, dtype=np.float64) / len(x), 1e-12))


def squared_distance(a: np.ndarray, b: np.ndarray, kernel: Kernel, *, gamma: float = 1.0) -> np.ndarray:
    r"""Squared distance in kernel space, :math:`K_{ii} + K_{jj} - 2K_{ij}`, up to a monotone map, shape ``(len(a), len(b))``.

    For the Gaussian kernel this is :math:`2 - 2\exp(-d^2/2\sigma^2)`, which orders pairs as the Euclidean distance does
    whatever σ is; the Euclidean one is returned. So σ needs no choice, and neighbours under it are Euclidean neighbours.
    """
    if kernel == "rbf":
        return squared_euclidean(a, b)
    own_a = (gamma * np.einsum("ij,ij->i", a, a) + POLY_OFFSET) ** POLY_DEGREE
    own_b = (gamma * np.einsum("ij,ij->i", b, b) + POLY_OFFSET) ** POLY_DEGREE
    distance = -2 * polynomial(a, b, gamma=gamma)
    distance += own_a[:, None]
    distance += own_b[None, :]
    return np.maximum(distance, 0, out=distance)


def squared_distance_pairs(a: np.ndarray, b: np.ndarray, kernel: Kernel, *, gamma: float = 1.0) -> np.ndarray:
    """As :func:`squared_distance`, for the pairs ``(a[i], b[i])`` only, shape ``(len(a),)``."""
    if kernel == "rbf":
        difference = a - b
        return np.einsum("ij,ij->i", difference, difference)
    own_a = (gamma * np.einsum("ij,ij->i", a, a) + POLY_OFFSET) ** POLY_DEGREE
    own_b = (gamma * np.einsum("ij,ij->i", b, b) + POLY_OFFSET) ** POLY_DEGREE
    cross = (gamma * np.einsum("ij,ij->i", a, b) + POLY_OFFSET) ** POLY_DEGREE
    return own_a + own_b - 2 * cross
