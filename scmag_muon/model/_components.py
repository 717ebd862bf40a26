"""Encoders with shared last layers and decoders with three heads (paper, eq. 13-15, 19-21)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED_WIDTHS = (32, 16)
N_LATENT = 2 * SHARED_WIDTHS[-1]

_LOG_LIMIT = 12.0


@dataclass(frozen=True)
class Widths:
    """Widths of a modality's own encoder layers (before the shared 32 and 16) and of its decoder (after the 32 of Zr)."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]


WIDE = Widths(encoder=(256, 64), decoder=(64, 256))
"""RNA and ATAC: encoder {256, 64, 32, 16}, decoder {32, 64, 256} (section 2.4)."""
PANEL = Widths(encoder=(64,), decoder=(64,))
"""Surface proteins: encoder {64, 32, 16}, decoder {32, 64} (section 2.4)."""


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ELU()]
    return nn.Sequential(*layers)


class PairedEncoder(nn.Module):
    """Two encoders with their own first layers and common last layers (eq. 13-14).

    Parameters
    ----------
    n_inputs
        Number of features of the two modalities.
    widths
        Layers of each modality.
    noise_scale
        k_R and k_A of eq. 13: standard deviation of the noise added to the inputs while training.
    """

    def __init__(self, n_inputs: Sequence[int], widths: Sequence[Widths], noise_scale: Sequence[float]) -> None:
        super().__init__()
        self.noise_scale = tuple(noise_scale)
        self.own = nn.ModuleList(_dense((n, *w.encoder)) for n, w in zip(n_inputs, widths, strict=True))
        self.shared = nn.Sequential(
            _dense((widths[0].encoder[-1], SHARED_WIDTHS[0])), nn.Linear(SHARED_WIDTHS[0], SHARED_WIDTHS[1])
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Fused space Z1, the two codes side by side (eq. 15), shape ``(n_cells, 32)``."""
        codes = []
        for x, own, scale in zip(inputs, self.own, self.noise_scale, strict=True):
            noisy = x + scale * torch.randn_like(x) if self.training and scale else x
            codes.append(self.shared(own(noisy)))
        return torch.cat(codes, dim=-1)


class ZINBDecoder(nn.Module):
    """Decoder of one modality with linear heads for mean, dispersion and dropout (eq. 19-21).

    The batch enters here, one-hot beside Zr, and nowhere else in the network, so that the latent spaces need not carry it.
    """

    def __init__(self, n_output: int, widths: Widths, n_batch: int) -> None:
        super().__init__()
        self.n_batch = n_batch if n_batch > 1 else 0
        self.trunk = _dense((N_LATENT + self.n_batch, *widths.decoder))
        self.heads = nn.ModuleList(nn.Linear(widths.decoder[-1], n_output) for _ in range(3))

    def forward(self, z: Tensor, batch_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log of the mean at size factor 1, log dispersion, dropout logit, each ``(n_cells, n_output)``."""
        if self.n_batch:
            one_hot = nn.functional.one_hot(batch_index.squeeze(-1).long(), self.n_batch).to(z.dtype)
            z = torch.cat([z, one_hot], dim=-1)
        hidden = self.trunk(z)
        log_mean, log_dispersion, logits = (head(hidden) for head in self.heads)
        return _bounded(log_mean), _bounded(log_dispersion), logits


def _bounded(x: Tensor) -> Tensor:
    """Clamp so that exp stays finite; looked at first, since the clamp and its gradient cost several passes."""
    low, high = x.detach().aminmax()
    if low < -_LOG_LIMIT or high > _LOG_LIMIT:
        return x.clamp(-_LOG_LIMIT, _LOG_LIMIT)
    return x
