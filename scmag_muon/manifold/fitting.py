"""Direction and projection of manifold fitting, as one row-stochastic operator (paper, eq. 5-10)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.neighbors import indicator


def fitting_operator(shared: np.ndarray, *, step: float = 1.0) -> sp.csr_array:
    """The operator C with which fitting is :math:`Y = C y`, sparse, rows sum to 1, shape ``(n_obs, n_obs)``.

    Parameters
    ----------
    shared
        R(i), the p cells of each cell's shared neighbourhood, shape ``(n_obs, p)``.
    step
        How far each point moves towards the mean F of its neighbourhood, in (0, 1].

    Notes
    -----
    F(K) is the plain mean over R(i) (eq. 8). The density of eq. 9, one over the sum of squared distances to R(i), has its
    only maximum at that mean, so the search along the line from K to F always ends at F: G = F and ``step`` = 1.
    """
    if not 0 < step <= 1:
        raise ValueError(f"`step` must lie in (0, 1], got {step}.")
    mean = indicator(shared)
    mean.data /= shared.shape[1]
    if step == 1:
        return mean
    return sp.csr_array(step * mean + (1 - step) * sp.eye_array(len(shared), dtype=np.float32, format="csr"))
