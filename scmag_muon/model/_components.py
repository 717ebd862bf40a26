"""Encoders with shared last layers and decoders with three heads (paper, eq. 13-15, 19-21)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from scmag_muon.model._likelihood import LOG_LIMIT, zinb_log_likelihood_of_heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.model._settings import Dispersion

SHARED_WIDTHS = (32, 16)
CODE_WIDTH = SHARED_WIDTHS[-1]


@dataclass(frozen=True)
class Widths:
    """Widths of a modality's own encoder layers (before the shared 32 and 16) and of its decoder (after Zr)."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    def beginning_with(self, n_hidden: int) -> Widths:
        """The same with another width of the encoder's first layer."""
        return replace(self, encoder=(n_hidden, *self.encoder[1:]))


WIDE = Widths(encoder=(256, 64), decoder=(64, 256))
"""RNA and ATAC: encoder {256, 64, 32, 16}, decoder {32, 64, 256} (section 2.4); the default's first layer is narrower."""
PANEL = Widths(encoder=(64,), decoder=(64,))
"""Surface proteins: encoder {64, 32, 16}, decoder {32, 64} (section 2.4)."""


def _dense(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ELU()]
    return nn.Sequential(*layers)


class InputNoise:
    """Standard normal numbers for the inputs, each of them drawn once for sixteen minibatches.

    Drawing a million of them takes longer than a layer's matrix product. So more are drawn than a minibatch needs, and each
    minibatch takes them from another random place on: no cell meets the same noise again.
    """

    _USES = 16
    _SPARE = 2**16

    def __init__(self) -> None:
        self.drawn = torch.empty(0)
        self.n_uses = 0

    def like(self, x: Tensor) -> Tensor:
        """Noise of the shape of ``x``; not to be changed. On a GPU it is drawn each time: that is quick, and a recorded step can't choose a place."""
        if x.device.type == "cuda":
            return torch.randn_like(x)
        self.n_uses += 1
        n_drawn = x.numel() + self._SPARE
        other_kind = (self.drawn.device, self.drawn.dtype) != (x.device, x.dtype)
        if self.n_uses > self._USES or len(self.drawn) < n_drawn or other_kind:
            self.drawn = torch.randn(n_drawn, device=x.device, dtype=x.dtype)
            self.n_uses = 1
        start = int(torch.randint(self._SPARE + 1, ()))
        return self.drawn[start : start + x.numel()].view_as(x)


class JointEncoder(nn.Module):
    """An encoder for each modality, with first layers of its own and last layers common to all (eq. 13-14).

    Parameters
    ----------
    n_inputs
        Number of features of each modality.
    widths
        Layers of each modality.
    noise_scale
        k_R and k_A of eq. 13 for each modality: standard deviation of the noise added to the inputs while training.
    """

    def __init__(self, n_inputs: Sequence[int], widths: Sequence[Widths], noise_scale: Sequence[float]) -> None:
        super().__init__()
        self.noise_scale = tuple(noise_scale)
        self.noise = tuple(InputNoise() for _ in n_inputs)
        self.own = nn.ModuleList(_dense((n, *w.encoder)) for n, w in zip(n_inputs, widths, strict=True))
        self.shared = nn.Sequential(
            _dense((widths[0].encoder[-1], SHARED_WIDTHS[0])), nn.Linear(SHARED_WIDTHS[0], SHARED_WIDTHS[1])
        )

    def renew_noise(self) -> None:
        """Forget the noise drawn for earlier minibatches, so that it follows from the seed alone."""
        self.noise = tuple(InputNoise() for _ in self.noise)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Fused space Z1, the codes side by side (eq. 15), shape ``(n_cells, 16 * n_modalities)``."""
        codes = []
        for x, own, scale, noise in zip(inputs, self.own, self.noise_scale, self.noise, strict=True):
            noisy = torch.add(x, noise.like(x), alpha=scale) if self.training and scale else x
            codes.append(own(noisy))
        codes = self.shared(torch.cat(codes)).chunk(len(codes))
        return torch.cat(codes, dim=-1).to(inputs[0].dtype)  # under autocast codes come in half precision


class CodePredictor(nn.Module):
    """Stand-in for the code of a modality that a cell lacks: linear in the mean of the codes that it has."""

    def __init__(self, n_modalities: int) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Linear(CODE_WIDTH, CODE_WIDTH) for _ in range(n_modalities))

    def forward(self, z1: Tensor, present: Tensor) -> Tensor:
        """Z1 with the codes foretold where ``present``, ``(n_cells, n_modalities)``, is False; of the same shape."""
        codes, there = z1.unflatten(1, present.shape[1:] + (CODE_WIDTH,)), present.unsqueeze(-1)
        mean = (codes * there).sum(dim=1) / there.sum(dim=1).clamp_min(1)
        foretold = torch.stack([linear(mean) for linear in self.linear], dim=1).to(z1.dtype)
        return torch.where(there, codes, foretold).flatten(1)


def without_one(present: Tensor, probability: float) -> Tensor:
    """``present`` with one modality, any, taken from a share of the cells at random; the last of a cell is left to it."""
    n_cells, n_modalities = present.shape
    chosen = torch.rand(n_cells, 1, device=present.device) < probability
    which = torch.randint(n_modalities, (n_cells,), device=present.device)
    kept = present & ~(chosen & nn.functional.one_hot(which, n_modalities).bool())
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)


class PerFeature(nn.Module):
    """A head that is the same for all cells: one number for each feature, as a linear layer without its weight."""

    weight = None

    def __init__(self, n_output: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_output))

    def forward(self, hidden: Tensor) -> Tensor:
        """The numbers, repeated for each cell, ``(n_cells, n_output)``."""
        return self.bias.repeat(len(hidden), 1)


class ZINBDecoder(nn.Module):
    """Decoder of one modality with heads for mean, dispersion and dropout (eq. 19-21).

    The batch enters here, one-hot beside Zr, and nowhere else in the network, so that the latent spaces need not carry it.
    """

    def __init__(
        self, n_latent: int, n_output: int, widths: Widths, n_batch: int, dispersion: Dispersion = "gene-cell"
    ) -> None:
        super().__init__()
        self.n_batch = n_batch if n_batch > 1 else 0
        self.trunk = _dense((n_latent + self.n_batch, *widths.decoder))
        self.heads = nn.ModuleList(nn.Linear(widths.decoder[-1], n_output) for _ in range(3))
        if dispersion == "gene":
            self.heads[1] = PerFeature(n_output)

    def hidden(self, z: Tensor, batch_index: Tensor) -> Tensor:
        """Last hidden layer, on which the heads stand."""
        if self.n_batch:
            one_hot = nn.functional.one_hot(batch_index.squeeze(-1).long(), self.n_batch).to(z.dtype)
            z = torch.cat([z, one_hot], dim=-1)
        return self.trunk(z)

    def log_likelihood(self, x: Tensor, hidden: Tensor, log_size: Tensor) -> Tensor:
        """Of each cell's counts, shape ``(n_cells,)``; ``log_size`` is the log of the size factors, ``(n_cells, 1)``."""
        heads = cast("list[nn.Linear | PerFeature]", list(self.heads))
        hidden = hidden.to(heads[0].bias.dtype)  # under autocast it comes in half precision
        weights, biases = [head.weight for head in heads], [head.bias for head in heads]
        return zinb_log_likelihood_of_heads(x, log_size, hidden, weights, biases)

    def log_mean(self, hidden: Tensor) -> Tensor:
        """Log of the mean at size factor 1, without the other two heads, ``(n_cells, n_output)``."""
        return self.heads[0](hidden).clamp(-LOG_LIMIT, LOG_LIMIT)

    def zinb(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log of the mean at size factor 1, log dispersion, dropout logit, each ``(n_cells, n_output)``."""
        log_mean, log_dispersion, logits = (head(hidden) for head in self.heads)
        return log_mean.clamp(-LOG_LIMIT, LOG_LIMIT), log_dispersion.clamp(-LOG_LIMIT, LOG_LIMIT), logits

    def forward(self, z: Tensor, batch_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three parameters from Zr."""
        return self.zinb(self.hidden(z, batch_index))
