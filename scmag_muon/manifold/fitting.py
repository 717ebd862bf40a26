"""Direction and projection of manifold fitting, as one row-stochastic operator (paper, eq. 5-10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.neighbors import indicator

if TYPE_CHECKING:
    import scipy.sparse as sp


def fitting_operator(shared: np.ndarray, *, step: float = 1.0, n_columns: int | None = None) -> sp.csr_array:
    """The operator C with which fitting is :math:`Y = C y`, sparse, rows sum to 1, shape ``(n_obs, n_obs)``.

    Parameters
    ----------
    shared
        R(i), the p cells of each cell's shared neighbourhood, shape ``(n_obs, p)``, first the cell itself or who stands for it.
    step
        How far each point moves towards the mean F of its neighbourhood, in (0, 1].
    n_columns
        Number of cells from which the neighbourhoods are, where these are not the cells of the rows.

    Notes
    -----
    F(K) is the plain mean over R(i) (eq. 8). The density of eq. 9, one over the sum of squared distances to R(i), has its
    only maximum at that mean, so the search along the line from K to F always ends at F: G = F and ``step`` = 1.
    """
    if not 0 < step <= 1:
        raise ValueError(f"`step` must lie in (0, 1], got {step}.")
    operator = indicator(shared, n_columns)
    operator.data *= np.float32(step)
    operator.data /= shared.shape[1]
    if step < 1:
        operator.data.reshape(shared.shape)[:, 0] += np.float32(1 - step)
    return operator
