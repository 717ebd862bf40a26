"""A training that goes astray is ended, and says where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

STAGE_NAMES = {1: "reconstruction", 2: "+ KL", 3: "+ clustering"}
_CELLS_AT_A_TIME = 2**16  # PyTorch makes a copy of what it looks at
MOST_LOSS = 1e15
MOST_WEIGHT = 1e5


class TrainingDivergedError(ValueError, FloatingPointError):
    """The loss or the network is no longer finite, or has exploded. The model is as it was before the call."""


def check_terms(means: Mapping[str, float], *, stage: int, epoch: int, lr: float, modalities: Sequence[str]) -> None:
    """Refuse an epoch in which a term of the loss was not finite or exploded.

    Raises
    ------
    TrainingDivergedError
        Naming the term, the stage, the epoch and the learning rate.
    """
    for name, mean in means.items():
        if not math.isfinite(mean) or abs(mean) > MOST_LOSS:
            raise diverged(f"{_term(name, modalities)} became {mean:g}", stage=stage, epoch=epoch, lr=lr)


def check_network(module: nn.Module, *, stage: int, epoch: int, lr: float) -> None:
    """Refuse weights that are not finite or have exploded."""
    for name, weights in module.named_parameters():
        largest = float(weights.detach().abs().max()) if weights.numel() else 0.0
        if not largest <= MOST_WEIGHT:
            raise diverged(f"a weight of {name} became {largest:g}", stage=stage, epoch=epoch, lr=lr)


def check_space(z: Tensor, *, stage: int, epoch: int, lr: float) -> None:
    """Refuse a latent space that is not finite."""
    bad = ~torch.cat([torch.isfinite(part).all(dim=1) for part in z.split(_CELLS_AT_A_TIME)])
    if bad.any():
        what = f"the latent space of {int(bad.sum())} of {len(z)} cells is not finite"
        raise diverged(what, stage=stage, epoch=epoch, lr=lr)


def diverged(what: str, *, stage: int, epoch: int, lr: float) -> TrainingDivergedError:
    """The error, with advice."""
    argument, usual = ("cluster_lr", 3e-4) if stage == 3 else ("lr", 3e-3)
    lower = usual if lr > usual else lr / 10
    return TrainingDivergedError(
        f"Training diverged: {what} in stage {stage} ({STAGE_NAMES[stage]}), epoch {epoch}, at a learning rate of {lr:g}. "
        f'The model is as it was before. Take a lower rate, plan_kwargs={{"{argument}": {lower:g}}}, and the usual '
        "`noise_scale`, `kl_weight` and `cluster_weight` if you have set these."
    )


def _term(name: str, modalities: Sequence[str]) -> str:
    kind, _, rest = name.partition("_")
    if kind == "reconstruction":
        which = int(rest.split("_")[0])
        return f"the reconstruction loss of {modalities[which]!r}" if which < len(modalities) else f"the loss {which}"
    return {"kl": "the KL divergence", "cluster": "the clustering loss"}.get(kind, f"the loss ({kind})")
