"""Ridge regression of many values on a few coordinates, with what each point does to its own prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse as sp


@dataclass(frozen=True)
class Ridge:
    """Linear map from coordinates to values (:func:`fit_ridge`).

    Parameters
    ----------
    center, level
        Means of the coordinates, ``(n_coordinates,)``, and of the values, ``(n_values,)``.
    inverse
        Inverse of the penalised scatter of the coordinates, ``(n_coordinates, n_coordinates)``.
    slopes
        Change of the values with the coordinates, ``(n_coordinates, n_values)``.
    n_points
        Number of points that it was fitted to.
    """

    center: np.ndarray
    level: np.ndarray
    inverse: np.ndarray
    slopes: np.ndarray
    n_points: int

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Values at these coordinates, ``(n_rows, n_values)``."""
        return self.level + (x - self.center) @ self.slopes

    def predict_without(self, x: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Values at points of the fit, each as if it had been left out, by its leverage; ``values`` are those it had."""
        own = x - self.center
        leverage = (1 / self.n_points + np.einsum("ij,jk,ik->i", own, self.inverse, own))[:, None]
        return (self.predict(x) - leverage * values) / np.maximum(1 - leverage, 1e-6)


def fit_ridge(x: np.ndarray, values: np.ndarray | sp.csr_array, *, penalty: float = 1.0) -> Ridge:
    """Map that makes the squared error of the values plus ``penalty`` times the squared slopes least.

    Parameters
    ----------
    x
        Coordinates, ``(n_points, n_coordinates)``.
    values
        Dense or sparse, ``(n_points, n_values)``.
    penalty
        Directions along which the points scatter by less than this sum of squares count for little.
    """
    center = x.mean(axis=0, dtype=np.float64)
    own = x - center
    inverse = np.linalg.inv(own.T @ own + penalty * np.eye(x.shape[1]))
    level = np.asarray(values.mean(axis=0), dtype=np.float64).ravel()
    crossed = np.asarray(values.T @ own).T  # the mean of the values falls out, for the coordinates are centred
    return Ridge(center, level, inverse, inverse @ crossed, len(x))
