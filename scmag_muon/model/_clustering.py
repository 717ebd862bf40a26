"""Soft assignment, clustering loss and the gate that selects what to cluster on (paper, eq. 17-18, 29-32)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """Squared Euclidean distance of each cell to each centre (eq. 29), shape ``(n_cells, n_clusters)``."""
    return (z.unsqueeze(1) - centers.unsqueeze(0)).square().sum(dim=-1)


def soft_assignment(distances: Tensor) -> Tensor:
    """Soft assignment Q of eq. 30-31: softmax of the centred distances, squared and normalised again, rows sum to 1."""
    centered = distances - distances.mean(dim=1, keepdim=True)
    q = torch.softmax(-centered, dim=1).square()
    return q / q.sum(dim=1, keepdim=True)


def clustering_loss(distances: Tensor, q: Tensor) -> Tensor:
    r"""Weighted soft k-means loss of eq. 32: mean over cells of :math:`\sum_j d_{ij} q_{ij}`."""
    return (distances * q).sum(dim=1).mean()


def total_variance(z: Tensor) -> Tensor:
    """Sum over dimensions of the variance over cells."""
    return (z - z.mean(dim=0)).square().sum(dim=1).mean()


class SelectiveGate(nn.Module):
    """Forget gate of the SER strategy, :math:`Z_c = σ(W [Z_c, Q] + b) ∘ Z_1` (eq. 17).

    The equation is circular: Zc needs the gate, the gate needs Zc and Q. It is iterated from Zc = Z1.

    Parameters
    ----------
    n_latent, n_clusters
        Width of Z1 and number of clusters.
    bias
        Initial b. The gate starts with W = 0, so that it passes σ(b) of every dimension: 3 is open, 0 halves Z1.
    n_iterations
        How often Q (expectation) and gate (maximisation) alternate.
    """

    def __init__(self, n_latent: int, n_clusters: int, *, bias: float, n_iterations: int = 2) -> None:
        super().__init__()
        self.n_iterations = n_iterations
        self.linear = nn.Linear(n_latent + n_clusters, n_latent)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, z1: Tensor, centers: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Clustering space Zc and the gate's values, each ``(n_cells, n_latent)``; distances are multiplied by ``scale``."""
        zc, gate = z1, torch.ones_like(z1)
        for _ in range(self.n_iterations):
            q = soft_assignment(scale * squared_distances(zc, centers)).detach()
            gate = torch.sigmoid(self.linear(torch.cat([zc, q], dim=-1)))
            zc = gate * z1
        return zc, gate
