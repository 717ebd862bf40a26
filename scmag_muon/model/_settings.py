"""The two configurations of the network: what the paper prints, and what we measured to be better."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scmag_muon._assays import ASSAYS

if TYPE_CHECKING:
    from scmag_muon._assays import ModalityKind

Settings = Literal["default", "paper"]
Dispersion = Literal["gene", "gene-cell"]

_CHOICES = {"reduction": ("sum", "mean"), "dispersion": ("gene", "gene-cell")}
_AT_LEAST_ZERO = ("residual_weight", "kl_weight", "cluster_weight")


def of_each_modality(
    value: float | Mapping[ModalityKind, float] | Sequence[float], kinds: Sequence[ModalityKind], *, argument: str
) -> tuple[float, ...]:
    """A number for each modality, from one for all, one for each kind, or a sequence of them."""
    if isinstance(value, Mapping):
        missing = sorted(set(kinds) - set(value))
        if missing:
            raise ValueError(f"`{argument}` has no number for modalities of kind {missing}; it has {sorted(value)}.")
        return tuple(float(value[kind]) for kind in kinds)
    if isinstance(value, (Sequence, np.ndarray)):
        if len(value) != len(kinds):
            raise ValueError(f"`{argument}` must hold a number for each of {len(kinds)} modalities, got {len(value)}.")
        return tuple(map(float, value))
    return (float(value),) * len(kinds)


@dataclass(frozen=True)
class NetworkSettings:
    """Numbers of sections 2.3 to 2.5.

    Attributes
    ----------
    n_hidden
        Width of the first layer of the encoders of RNA and ATAC (section 2.4: 256; 128 foretells held-out counts better).
    noise_scale
        k_R, k_A (eq. 13): one number, one for each kind of modality, or a sequence with one for each modality.
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
    modality_dropout
        Share of the cells of a minibatch that lose the code of one modality while training, so that the network learns to
        foretell the code of a modality that a cell lacks from its other codes. With 0 it takes the code of the imputed input.
    """

    n_hidden: int
    noise_scale: float | Mapping[ModalityKind, float] | Sequence[float]
    residual_weight: float
    reduction: Literal["sum", "mean"]
    dispersion: Dispersion
    gate_bias: float | None
    two_stage: bool
    relative_distance: bool
    kl_weight: float
    cluster_weight: float
    modality_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no network can be made of or trained with."""
        given: dict[str, Any] = vars(self)
        n_hidden, noise, bias = given["n_hidden"], given["noise_scale"], given["gate_bias"]
        if not _is_number(n_hidden) or not isinstance(n_hidden, numbers.Integral) or n_hidden < 1:
            raise ValueError(f"`n_hidden` must be a whole number of at least 1, got {n_hidden!r}.")
        if not _are_weights(noise):
            raise ValueError(
                "`noise_scale` must be a finite number of at least 0, or one for each modality, as (0.5, 0.5), or for each "
                f"kind, as {{'rna': 2.0, 'protein': 1.5}}, got {noise!r}."
            )
        for name in _AT_LEAST_ZERO:
            if not _is_weight(given[name]):
                raise ValueError(f"`{name}` must be a finite number of at least 0, got {given[name]!r}.")
        if not _is_weight(given["modality_dropout"]) or given["modality_dropout"] >= 1:
            raise ValueError(
                f"`modality_dropout` must be a number of at least 0 and less than 1, got {given['modality_dropout']!r}."
            )
        if bias is not None and not (_is_number(bias) and math.isfinite(bias)):
            raise ValueError(f"`gate_bias` must be a finite number, or None for no gate, got {bias!r}.")
        for name, choices in _CHOICES.items():
            if given[name] not in choices:
                raise ValueError(f"`{name}` must be one of {list(choices)}, got {given[name]!r}.")
        for name in ("two_stage", "relative_distance"):
            if not isinstance(given[name], bool):
                raise ValueError(f"`{name}` must be True or False, got {given[name]!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_weight(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value >= 0


def _are_weights(value: Any) -> bool:
    if isinstance(value, Mapping):
        return set(value) <= set(ASSAYS) and all(map(_is_weight, value.values()))
    if isinstance(value, (Sequence, np.ndarray)):
        return not isinstance(value, str) and all(map(_is_weight, value))
    return _is_weight(value)


def network_settings(settings: Any, changes: Mapping[str, Any]) -> NetworkSettings:
    """One of :data:`SETTINGS` with single numbers replaced."""
    if not isinstance(settings, str) or settings not in SETTINGS:
        raise ValueError(f"`settings` must be one of {sorted(SETTINGS)}, got {settings!r}.")
    known = vars(SETTINGS[settings])
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise TypeError(f"SCMAG has no setting named {unknown}; it has {sorted(known)}.")
    return replace(SETTINGS[settings], **changes)


SETTINGS: dict[str, NetworkSettings] = {
    "default": NetworkSettings(
        n_hidden=128,
        noise_scale=0.5,
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
        noise_scale={"rna": 2.0, "protein": 1.5, "atac": 1.5},
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
