"""The two configurations of the network: what the paper prints, and what we measured to be better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Settings = Literal["default", "paper"]
Dispersion = Literal["gene", "gene-cell"]


@dataclass(frozen=True)
class NetworkSettings:
    """Numbers of sections 2.3 to 2.5.

    Attributes
    ----------
    n_hidden
        Width of the first layer of the encoders of RNA and ATAC (section 2.4: 256; 128 foretells held-out counts better).
    noise_scale
        k_R, k_A (eq. 13).
    residual_weight
        η (eq. 16).
    reduction
        Likelihood summed or averaged over features (eq. 26-27).
    dispersion
        Dispersion of each feature in each cell (``"gene-cell"``, eq. 20) or of each feature in all cells (``"gene"``), as in
        scvi-tools.
    gate_bias
        Initial bias b of the gate (eq. 17): 3 is open, 0 halves Z1; ``None`` leaves the gate out.
    two_stage
        Two spaces, Zr = Z2 + η Z1 and Zc from Z1 (eq. 16-17); or, for ablation, one variational space: Zr = Z2, Zc from its
        mean.
    relative_distance
        Clustering distances relative to the spread of Zc (eq. 29, "scaled"), or as printed.
    kl_weight, cluster_weight
        α and β of eq. 33.
    """

    n_hidden: int
    noise_scale: tuple[float, float]
    residual_weight: float
    reduction: Literal["sum", "mean"]
    dispersion: Dispersion
    gate_bias: float | None
    two_stage: bool
    relative_distance: bool
    kl_weight: float
    cluster_weight: float


SETTINGS: dict[str, NetworkSettings] = {
    "default": NetworkSettings(
        n_hidden=128,
        noise_scale=(0.5, 0.5),
        residual_weight=0.3,
        reduction="sum",
        dispersion="gene",
        gate_bias=3.0,
        two_stage=True,
        relative_distance=True,
        kl_weight=0.01,
        cluster_weight=10.0,
    ),
    "paper": NetworkSettings(
        n_hidden=256,
        noise_scale=(2.0, 1.5),
        residual_weight=0.3,
        reduction="mean",
        dispersion="gene-cell",
        gate_bias=0.0,
        two_stage=True,
        relative_distance=False,
        kl_weight=0.01,
        cluster_weight=0.001,
    ),
}
