"""Decoder weights of new batches, fitted to counts while all else is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from scmag_muon.model._likelihood import zinb_log_likelihood_of_heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp

    from scmag_muon.model._components import PerFeature, ZINBDecoder

_LEARNING_RATE = 0.02


@dataclass(frozen=True)
class DecodedModality:
    """Counts of a modality, and what its decoder needs of the cells.

    Parameters
    ----------
    decoder
        Of the modality.
    kept
        Numbers of the decoder's features that were measured.
    counts
        Raw counts of these, CSR, ``(n_obs, n_kept)``.
    has
        Which cells have the modality, bool, ``(n_obs,)``.
    log_size
        Log of the size factors, ``(n_obs,)``.
    zr
        Reconstruction space, ``(n_obs, n_latent)``.
    """

    decoder: ZINBDecoder
    kept: torch.Tensor
    counts: sp.csr_array
    has: np.ndarray
    log_size: np.ndarray
    zr: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        """Weights of the decoder's first layer, those of the batches last."""
        return self._first.weight

    @property
    def _first(self) -> nn.Linear:
        return cast("nn.Linear", self.decoder.trunk[0])

    def nll(self, rows: np.ndarray, codes: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of some cells' counts; ``added``, ``(n_new, width)``, are the new batches' weights."""
        rows = rows[self.has[rows]]
        batch = codes[torch.from_numpy(rows).to(codes.device)]
        zr = self.zr[rows]
        n_before = self.weight.shape[1] - zr.shape[1] - len(added)
        weight = torch.cat([self.weight.detach()[:, : zr.shape[1] + n_before], added.T], dim=1)
        one_hot = nn.functional.one_hot(batch + n_before, n_before + len(added)).to(zr.dtype)
        first = nn.functional.linear(torch.cat([zr, one_hot], dim=1), weight, self._first.bias.detach())
        heads = cast("list[nn.Linear | PerFeature]", list(self.decoder.heads))
        weights = [None if head.weight is None else head.weight.detach()[self.kept] for head in heads]
        biases = [head.bias.detach()[self.kept] for head in heads]
        x = torch.from_numpy(np.asarray(self.counts[rows].toarray(), dtype=np.float32)).to(zr.device)
        log_size = torch.from_numpy(self.log_size[rows, None]).to(zr.device)
        return -zinb_log_likelihood_of_heads(x, log_size, self.decoder.trunk[1:](first), weights, biases).sum()


def fit_new_batches(
    data: Sequence[DecodedModality], codes: torch.Tensor, n_before: int, max_epochs: int, batch_size: int
) -> np.ndarray:
    """Fit the weights of the batches after the first ``n_before`` by Adam, in place, and give the mean loss of each epoch.

    ``codes`` number the cells' batches, from 0 for the first new one and below 0 for those that were there. A normal prior of
    variance 1 around where the weights begin keeps few cells from deciding much.
    """
    n_latent = data[0].zr.shape[1]
    added = [of.weight.detach()[:, n_latent + n_before :].T.clone().requires_grad_() for of in data]
    new = np.flatnonzero((codes >= 0).cpu().numpy())
    if not len(new) or not len(added[0]):
        return np.empty(0)
    start = [of.detach().clone() for of in added]
    optimizer = torch.optim.Adam(added, lr=_LEARNING_RATE)
    losses = []
    for _ in range(max_epochs):
        total, order = 0.0, new[torch.randperm(len(new)).numpy()]
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            nll = torch.stack([of.nll(rows, codes, weights) for of, weights in zip(data, added, strict=True)]).sum()
            moved = torch.stack([(of - at).square().sum() for of, at in zip(added, start, strict=True)]).sum()
            optimizer.zero_grad()
            (nll / len(rows) + moved / 2 / len(new)).backward()
            optimizer.step()
            total += float(nll.detach())
        losses.append(total / len(new))
    with torch.no_grad():
        for of, weights in zip(data, added, strict=True):
            of.weight[:, n_latent + n_before :] = weights.T
    return np.array(losses)
