"""Zero-inflated negative binomial log-likelihood that does the costly work on non-zero counts only (paper, eq. 22-27)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

_CHUNK = 262_144


class _ZINB(torch.autograd.Function):
    """Log-likelihood of each cell and the three derivatives of each entry, in one pass over blocks that stay in cache.

    With θ the dispersion, μ the mean and l the logit of the dropout probability π, a zero count has

        log p(0) = log(π + (1-π) (θ/(θ+μ))^θ) = softplus(t - l) - softplus(-l),    t = -θ softplus(log μ - log θ),

    without any gamma function, since Γ(x+θ) and Γ(θ) cancel there. Nine counts in ten are zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mean: Tensor, log_dispersion: Tensor, dropout_logits: Tensor) -> Tensor:
        with_gradients = any(ctx.needs_input_grad[1:])
        gradients = [torch.empty_like(x, dtype=log_mean.dtype) for _ in range(3)] if with_gradients else None
        total = torch.empty(len(x), dtype=log_mean.dtype, device=x.device)
        step = max(1, _CHUNK // max(x.shape[1], 1)) if x.device.type == "cpu" else max(len(x), 1)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            out = None if gradients is None else [gradient[rows] for gradient in gradients]
            total[rows] = _block(x[rows], log_mean[rows], log_dispersion[rows], dropout_logits[rows], out)
        if gradients is not None:
            ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        scale = grad_outputs[0].unsqueeze(-1)
        mean, dispersion, logits = ctx.saved_tensors
        return None, mean * scale, dispersion * scale, logits * scale


def _block(
    x: Tensor, log_mean: Tensor, log_dispersion: Tensor, logits: Tensor, gradients: list[Tensor] | None
) -> Tensor:
    difference = log_mean - log_dispersion
    log_ratio = softplus(difference)
    dispersion = log_dispersion.exp()
    log_zero = (dispersion * log_ratio).neg_()
    posterior = log_zero - logits
    value = softplus(posterior).sub_(softplus(-logits))

    at_nonzero = x.nonzero(as_tuple=True)
    count, theta, ratio = x[at_nonzero].to(log_mean.dtype), dispersion[at_nonzero], log_ratio[at_nonzero]
    logit, zero, diff = logits[at_nonzero], log_zero[at_nonzero], difference[at_nonzero]
    gammas = torch.lgamma(count + theta) - torch.lgamma(theta) - torch.lgamma(count + 1)
    value[at_nonzero] = zero + gammas + count * (diff - ratio) - softplus(logit)

    if gradients is not None:
        of_mean, of_dispersion, of_logits = gradients
        slope = dispersion.mul_(difference.sigmoid_())
        posterior.sigmoid_()
        torch.sub(torch.sigmoid(-logits), posterior, out=of_logits)
        torch.mul(posterior, slope, out=of_mean).neg_()
        torch.mul(posterior, log_zero.add_(slope), out=of_dispersion)
        stay = (-diff).sigmoid()
        slope_nonzero = theta * (1 - stay)
        of_logits[at_nonzero] = -logit.sigmoid()
        of_mean[at_nonzero] = count * stay - slope_nonzero
        digammas = torch.digamma(count + theta) - torch.digamma(theta)
        of_dispersion[at_nonzero] = zero + slope_nonzero + theta * digammas - count * stay
    return value.sum(dim=-1)


def zinb_log_likelihood(x: Tensor, log_mean: Tensor, log_dispersion: Tensor, dropout_logits: Tensor) -> Tensor:
    """Log-likelihood of each cell's counts, summed over its features, shape ``(n_cells,)``.

    Parameters
    ----------
    x
        Counts, shape ``(n_cells, n_features)``.
    log_mean, log_dispersion, dropout_logits
        log μ, log θ and logit π of each entry, of the same shape as ``x``.

    Notes
    -----
    Eq. 22-25 with the negative binomial in its standard form: the paper prints θ/(θ+μ) twice and leaves out Γ(x+1); the
    second factor is (μ/(θ+μ))^x.
    """
    return _ZINB.apply(x, log_mean, log_dispersion, dropout_logits)
