"""Principal components of transformed data, and their loadings, by which further cells are placed among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.singular import leading_singular_vectors

if TYPE_CHECKING:
    from scmag_muon.manifold.transforms import View


@dataclass(frozen=True)
class Components:
    """Loadings, float32, ``(n_vars, n_components)``, and the mean of each feature, float64, ``(n_vars,)``."""

    loadings: np.ndarray
    center: np.ndarray

    def scores(self, view: View) -> np.ndarray:
        """Scores of cells on the components, float32, shape ``(n_obs, n_components)``."""
        loadings = self.loadings.astype(np.float64)
        scores = view.scale * (view.values.tocsr() @ loadings)
        scores += np.multiply.outer(view.row_offset, loadings.sum(axis=0))
        scores += (view.column_offset - self.center) @ loadings
        return scores.astype(np.float32)


def principal_components(view: View, n_pcs: int, *, random_state: int | None = 0) -> np.ndarray:
    """Scores of the cells on the first principal components of a view, float32, shape ``(n_obs, <= n_pcs)``."""
    return fit_components(view, n_pcs, random_state=random_state)[0]


def fit_components(view: View, n_pcs: int, *, random_state: int | None = 0) -> tuple[np.ndarray, Components]:
    """Scores of the cells as of :func:`principal_components`, and the components that give them."""
    n_obs, n_vars = view.shape
    center = view.scale * view.value_means()
    center += view.row_offset.mean(dtype=np.float64) + view.column_offset
    if n_obs == 1:
        return np.zeros((1, 1), dtype=np.float32), Components(np.zeros((n_vars, 1), np.float32), center)
    if min(n_obs, n_vars) <= n_pcs + 1:
        block = view.toarray()
        block -= block.mean(axis=0)
        left, singular, right = np.linalg.svd(block, full_matrices=False)
        left, singular, right = left[:, :n_pcs], singular[:n_pcs], right[:n_pcs]
    else:
        left, singular, right = leading_singular_vectors(view.centered(), n_pcs, random_state=random_state)
    # what is below rounding of the centred data is no component: cells that are alike must stay so
    singular[singular <= 1e-5 * np.sqrt(n_obs * n_vars)] = 0
    # the sign of a singular vector is arbitrary: fix it, so that results repeat across solvers
    peaks = np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1).ravel()
    sign = np.where(peaks < 0, -1.0, 1.0)
    loadings = np.ascontiguousarray((right * (sign * (singular > 0))[:, None]).T, dtype=np.float32)
    return np.ascontiguousarray(left * (singular * sign), dtype=np.float32), Components(loadings, center)
