"""Zero-inflated negative binomial log-likelihood; on the CPU the costly work is done on non-zero counts only (paper, eq. 22-27)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from scmag_muon.model._workers import in_workers
from scmag_muon.model._zinb import evaluate_rows, load_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_LIMIT = 12.0
"""Bound of log mean (at size factor 1) and log dispersion, so that their exponentials stay finite."""

_LOGIT_LIMIT = -80.0  # the sigmoid of less is no normal number of single precision
# above this the formula for large θ is nearer than differences of gamma functions
_LARGE_LOG_THETA = {torch.float32: 4.5, torch.float64: 11.0}
# smaller products are not worth a thread; 256 cells of larger ones leave the cache
_FEATURES_OF_BLOCK = 128, 1024


class _ZINB(torch.autograd.Function):
    """Log-likelihood of each cell from the three parameters of each entry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        derivatives = [parameter.clone(memory_format=torch.contiguous_format) for parameter in parameters]
        no_biases = [parameter.new_zeros(parameter.shape[1]) for parameter in parameters]
        total = _evaluate(x.contiguous(), x.new_zeros(len(x), 1), derivatives, no_biases, limit=math.inf)
        ctx.save_for_backward(*derivatives)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0].unsqueeze(-1)
        return None, *(derivative * scale for derivative in ctx.saved_tensors)


class _ZINBHeads(torch.autograd.Function):
    """The same from the last hidden layer, with the three linear heads inside.

    On the CPU heads, likelihood and derivatives are computed by blocks of features, each in one thread. The heads' outputs are
    overwritten with the derivatives, and what is to be summed over cells or features stays a matrix product, so that nothing
    of the size of the counts is held twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_size: Tensor, hidden: Tensor, *heads: Tensor | None) -> Tensor:
        weights, biases = heads[:3], cast("tuple[Tensor, ...]", heads[3:])
        # under autocast the products come in half precision; the likelihood needs all of its digits
        ctx.dtype = torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else hidden.dtype
        ctx.blocks = _blocks_of_features(x)
        x, low_hidden = x.contiguous(), hidden.to(ctx.dtype)

        def work(block: slice) -> list[Tensor]:
            outputs = [
                hidden.new_empty(len(hidden), block.stop - block.start)
                if weight is None
                else (low_hidden @ weight[block].to(ctx.dtype).T).to(hidden.dtype)
                for weight in weights
            ]
            total = _evaluate(
                x,
                log_size,
                outputs,
                [bias[block] for bias in biases],
                start=block.start,
                limit=LOG_LIMIT,
                one_dispersion=weights[1] is None,
            )
            return [total, *outputs]

        with torch.autocast(x.device.type, enabled=False):
            found = in_workers(work, ctx.blocks)
        ctx.save_for_backward(hidden, *weights, *(output for _, *outputs in found for output in outputs))
        return torch.stack([total for total, *_ in found]).sum(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0]
        hidden, *saved = ctx.saved_tensors
        weights, derivatives = saved[:3], saved[3:]
        scaled_hidden = (hidden * scale.unsqueeze(-1)).to(ctx.dtype)
        of_weights = [None if weight is None else torch.empty_like(weight, dtype=ctx.dtype) for weight in weights]
        of_biases = hidden.new_empty(3, ctx.blocks[-1].stop)

        def work(i: int) -> Tensor:
            block, of_hidden = ctx.blocks[i], torch.zeros_like(hidden)
            own = derivatives[3 * i : 3 * i + 3]
            for weight, of_weight, of_bias, derivative in zip(weights, of_weights, of_biases, own, strict=True):
                of_bias[block] = scale @ derivative
                if of_weight is not None:
                    low = derivative.to(ctx.dtype)
                    torch.mm(low.T, scaled_hidden, out=of_weight[block])
                    of_hidden += low @ weight[block].to(ctx.dtype)
            return of_hidden

        with torch.autocast(hidden.device.type, enabled=False):
            of_hidden = torch.stack(in_workers(work, range(len(ctx.blocks)))).sum(dim=0)
        of_weights = [None if of_weight is None else of_weight.to(hidden.dtype) for of_weight in of_weights]
        return None, None, of_hidden * scale.unsqueeze(-1), *of_weights, *of_biases


def _blocks_of_features(x: Tensor) -> list[slice]:
    """As many for each thread, so small that what is computed of one of them fits the cache; a GPU takes all at once."""
    n_features, n_blocks = x.shape[1], 1
    if x.device.type == "cpu":
        smallest, largest = _FEATURES_OF_BLOCK
        n_threads = torch.get_num_threads()
        n_blocks = min(n_threads * -(-n_features // (n_threads * largest)), max(n_features // smallest, 1))
    cuts = [n_features * i // n_blocks for i in range(n_blocks + 1)]
    return list(map(slice, cuts[:-1], cuts[1:]))


def _evaluate(
    x: Tensor,
    log_size: Tensor,
    parameters: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    start: int = 0,
    limit: float,
    one_dispersion: bool = False,
) -> Tensor:
    """Log-likelihood of each cell; ``parameters``, of the features from ``start`` on, are overwritten with its derivatives.

    ``biases`` are added to the parameters first. Log mean and log dispersion are bounded to ± ``limit`` then, beyond which
    their derivative is 0, and ``log_size`` is added to the log mean. With ``one_dispersion`` the bias alone is each feature's
    log dispersion, whatever the parameter held.
    """
    tensors = (x, log_size, *parameters, *biases)
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors):
        total = torch.empty(len(x))
        arrays = [t.numpy() for t in (torch.stack(list(biases)), *parameters, total)]
        load_parts()
        evaluate_rows(x.numpy(), start, log_size.numpy().ravel(), one_dispersion, limit, *arrays)
        return total
    if one_dispersion:
        parameters[1].zero_()
    for parameter, bias in zip(parameters, biases, strict=True):
        parameter.add_(bias)
    outside = [parameter.abs() > limit for parameter in parameters[:2]]
    for parameter in parameters[:2]:
        parameter.clamp_(-limit, limit)
    parameters[0].add_(log_size)
    total = _at_once(x[:, start : start + len(biases[0])], parameters)
    for parameter, mask in zip(parameters, outside, strict=False):
        parameter.masked_fill_(mask, 0)
    return total


def _at_once(x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The same on any device and in any precision, operation by operation.

    With θ the dispersion, μ the mean and l the logit of the dropout probability π, a zero count has

        log p(0) = log(π + (1-π) (θ/(θ+μ))^θ) = log σ(l) - log σ(l + t),    t = θ softplus(log μ - log θ),

    without any gamma function, since Γ(x+θ) and Γ(θ) cancel there. Both cases are computed everywhere: to gather the counts
    that are not zero, a GPU would have to be waited for, which takes longer than their gamma functions.
    """
    log_mean, log_dispersion, logits = parameters
    count = x.to(logits.dtype)
    is_zero = count == 0
    difference = log_mean - log_dispersion
    theta = log_dispersion.exp()
    share, ratio = difference.sigmoid(), softplus(difference)
    slope, surplus = theta * share, theta * ratio
    logits.clamp_(min=_LOGIT_LIMIT)
    dropped, kept = logits.sigmoid(), (logits + surplus).sigmoid()
    rest = kept - 1

    gammas, digammas = _gammas(count, theta, log_dispersion)
    stays = count * (1 - share)
    nonzero = count * (difference - ratio) - surplus + gammas - softplus(logits)
    value = torch.where(is_zero, (dropped / kept).log(), nonzero)
    torch.where(is_zero, rest * slope, stays - slope, out=log_mean)
    torch.where(is_zero, rest * (surplus - slope), slope - surplus + digammas - stays, out=log_dispersion)
    torch.where(is_zero, kept - dropped, -dropped, out=logits)
    return value.sum(dim=-1)


def _gammas(count: Tensor, theta: Tensor, log_theta: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of Γ(x+θ) / Γ(θ) x!, and θ times its derivative by θ.

    Differences of gamma functions of large θ lose their digits, and with them the sign of the derivative. There they are those of
    Stirling's formula around θ - ½, whose next term is below .5 % of what is left of the derivative.
    """
    both, shifted = count + theta, theta - 0.5
    growth = torch.log1p(count / shifted)
    large = log_theta > _LARGE_LOG_THETA[log_theta.dtype]
    by_stirling = count * shifted.log() + (shifted + count) * growth - count
    value = torch.where(large, by_stirling, torch.lgamma(both) - torch.lgamma(theta)) - torch.lgamma(count + 1)
    return value, theta * torch.where(large, growth, torch.digamma(both) - torch.digamma(theta))


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


def zinb_log_likelihood_of_heads(
    x: Tensor, log_size: Tensor, hidden: Tensor, weights: Sequence[Tensor | None], biases: Sequence[Tensor]
) -> Tensor:
    """The same from a decoder's last hidden layer: heads (eq. 19-21) and likelihood in one, shape ``(n_cells,)``.

    Parameters
    ----------
    x
        Counts, shape ``(n_cells, n_features)``.
    log_size
        Log of the size factor of each cell, shape ``(n_cells, 1)``; added to the log mean.
    hidden
        Last hidden layer, shape ``(n_cells, n_hidden)``.
    weights, biases
        Of the heads for log mean, log dispersion and dropout logit, shapes ``(n_features, n_hidden)`` and ``(n_features,)``;
        without a weight, ``None``, the dispersion of a feature is the same in all cells.
    """
    return _ZINBHeads.apply(x, log_size, hidden, *weights, *biases)
