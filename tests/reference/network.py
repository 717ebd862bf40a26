"""Sections 2.3-2.5 of the paper, equation by equation, in plain NumPy; nothing here comes from the package.

Where the paper leaves something open or misprints it: ⊕ is concatenation, layers are linear + layer norm + ELU but for the
encoders' and heads' last, the negative binomial is the standard one, the sign of eq. 28 makes it a divergence, and the
circular eq. 17-18 is iterated from Zc = Z1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import expit, gammaln

if TYPE_CHECKING:
    from collections.abc import Sequence

    Layer = tuple[np.ndarray, np.ndarray]


def nb_as_printed(x: np.ndarray, mean: float, dispersion: float) -> np.ndarray:
    """Eq. 22, misprints included."""
    stay = dispersion / (dispersion + mean)
    return np.exp(gammaln(x + dispersion) - gammaln(dispersion)) / x * stay**dispersion * stay**x


def nb_log(x: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Log of eq. 22-23 with Γ(x+1) in the denominator and μ/(θ+μ) to the power of x."""
    binomial = gammaln(x + dispersion) - gammaln(x + 1) - gammaln(dispersion)
    stay, leave = np.log(dispersion / (dispersion + mean)), np.log(mean / (dispersion + mean))
    return binomial + dispersion * stay + x * leave


def zinb_log(x: np.ndarray, dropout: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Log of eq. 24-25."""
    return np.log(dropout * (x == 0) + (1 - dropout) * np.exp(nb_log(x, mean, dispersion)))


def layers(x: np.ndarray, parameters: Sequence[Layer]) -> np.ndarray:
    """Linear layers (weights of two dimensions) and normalisations with ELU (weights of one), in turn."""
    for weight, bias in parameters:
        if weight.ndim == 2:
            x = x @ weight.T + bias
        else:
            spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
            x = (x - x.mean(axis=1, keepdims=True)) / spread * weight + bias
            x = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
    return x


def fused_space(inputs: Sequence[np.ndarray], own: Sequence[Sequence[Layer]], shared: Sequence[Layer]) -> np.ndarray:
    """Z1 (eq. 14-15)."""
    return np.concatenate([layers(layers(x, first), shared) for x, first in zip(inputs, own, strict=True)], axis=1)


def decoder(
    zr: np.ndarray, size: np.ndarray, trunk: Sequence[Layer], heads: Sequence[Layer]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M, θ and Π of one modality (eq. 19-21)."""
    hidden = layers(zr, trunk)
    mean, dispersion, dropout = (hidden @ weight.T + bias for weight, bias in heads)
    return np.diag(size) @ np.exp(mean), np.exp(dispersion), expit(dropout)


def squared_distances(z: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Eq. 29."""
    d = np.zeros((len(z), len(centers)))
    for i in range(len(z)):
        for j in range(len(centers)):
            d[i, j] = np.linalg.norm(z[i] - centers[j]) ** 2
    return d


def softmax_of_centred(d: np.ndarray) -> np.ndarray:
    """Eq. 30 and the first half of eq. 31."""
    q = np.zeros_like(d)
    for i, row in enumerate(d):
        td = [row[j] - sum(row) / len(row) for j in range(len(row))]
        q[i] = np.exp(np.negative(td)) / sum(np.exp(np.negative(td)))
    return q


def soft_assignment(d: np.ndarray) -> np.ndarray:
    """Q (eq. 18, 30-31)."""
    q = softmax_of_centred(d)
    for i, row in enumerate(q):
        q[i] = [entry**2 / sum(other**2 for other in row) for entry in row]
    return q


def clustering_loss(d: np.ndarray, q: np.ndarray) -> float:
    """Eq. 32."""
    return sum(d[i, j] * q[i, j] for i in range(len(d)) for j in range(d.shape[1])) / len(d)


def gated_space(
    z1: np.ndarray, centers: np.ndarray, weight: np.ndarray, bias: np.ndarray, n_iterations: int, scale: float = 1.0
) -> np.ndarray:
    """Zc (eq. 17), Q and gate in turn, one cell after the other; ``scale`` multiplies the distances of eq. 29."""
    rows = []
    for row in z1:
        zc = row
        for _ in range(n_iterations):
            q = soft_assignment(scale * squared_distances(zc[None], centers))[0]
            zc = expit(weight @ np.array([*zc, *q]) + bias) * row
        rows.append(zc)
    return np.array(rows)


def kl_as_printed(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Eq. 28 summed over the dimensions of each cell: the *negative* of the divergence."""
    return 0.5 * (1 + np.log(sd**2) - mean**2 - sd**2).sum(axis=1)


def total_loss(l_r: float, l_a: float, l_kl: float, l_cluster: float, kl_weight: float, cluster_weight: float) -> float:
    """Eq. 33."""
    return l_r + l_a + kl_weight * l_kl + cluster_weight * l_cluster


def centroid_linkage(
    means: np.ndarray, sizes: np.ndarray, n_clusters: int, below: float = np.inf, chance: float = 0.0
) -> np.ndarray:
    """All distances at each step, the first of the smallest."""
    means, sizes, cluster = means.copy(), sizes.astype(float), np.arange(len(means))
    distances = cdist(means, means, "sqeuclidean")
    np.fill_diagonal(distances, np.inf)
    for _ in range(len(means) - n_clusters):
        apart = distances - chance * np.add.outer(1 / sizes, 1 / sizes)
        one, other = np.unravel_index(apart.argmin(), apart.shape)
        if apart[one, other] > below**2:
            break
        means[one] = np.average(means[[one, other]], axis=0, weights=sizes[[one, other]])
        sizes[one] += sizes[other]
        means[other] = np.inf
        cluster[cluster == other] = one
        distances[other] = distances[:, other] = np.inf
        distances[one] = distances[:, one] = cdist(means[[one]], means, "sqeuclidean")[0]
        distances[one, one] = np.inf
    return np.unique(cluster, return_inverse=True)[1]
