"""Zero-inflated negative binomial log-likelihood; on the CPU the costly work is done on non-zero counts only (paper, eq. 22-27)."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, softplus

from scmag_muon.model._zinb import evaluate_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_LIMIT = 12.0
"""Bound of log mean (at size factor 1) and log dispersion, so that their exponentials stay finite."""

_LOGIT_LIMIT = -80.0  # the sigmoid of less is no normal number of single precision
_FEW_ENTRIES = 2**14  # done before another thread has begun


class _ZINB(torch.autograd.Function):
    """Log-likelihood of each cell from the three parameters of each entry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        derivatives = [parameter.clone(memory_format=torch.contiguous_format) for parameter in parameters]
        no_biases = [parameter.new_zeros(parameter.shape[1]) for parameter in parameters]
        total = _evaluate(x, x.new_zeros(len(x), 1), derivatives, no_biases, limit=math.inf)
        ctx.save_for_backward(*derivatives)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0].unsqueeze(-1)
        return None, *(derivative * scale for derivative in ctx.saved_tensors)


class _ZINBHeads(torch.autograd.Function):
    """The same from the last hidden layer, with the three linear heads inside.

    The heads' outputs are overwritten with the derivatives, and what is to be summed over cells or features stays a matrix
    product, so that nothing of the size of the counts is held twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_size: Tensor, hidden: Tensor, *heads: Tensor | None) -> Tensor:
        weights, biases = heads[:3], cast("tuple[Tensor, ...]", heads[3:])
        # under autocast the products come in half precision; the likelihood needs all of its digits
        outputs = [
            hidden.new_empty(len(hidden), len(b)) if w is None else linear(hidden, w).to(hidden.dtype)
            for w, b in zip(weights, biases, strict=True)
        ]
        ctx.low_precision = torch.is_autocast_enabled(x.device.type)
        total = _evaluate(x, log_size, outputs, biases, limit=LOG_LIMIT, one_dispersion=weights[1] is None)
        ctx.save_for_backward(hidden, *weights, *outputs)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_outputs[0]
        hidden, *saved = ctx.saved_tensors
        weights, derivatives = saved[:3], saved[3:]
        dtype = torch.bfloat16 if ctx.low_precision else hidden.dtype
        scaled_hidden = (hidden * scale.unsqueeze(-1)).to(dtype)
        of_hidden = torch.zeros_like(hidden)
        of_weights: list[Tensor | None] = []
        of_biases = []
        for weight, derivative in zip(weights, derivatives, strict=True):
            of_biases.append(scale @ derivative)
            if weight is None:
                of_weights.append(None)
                continue
            low = derivative.to(dtype)
            of_weights.append((low.T @ scaled_hidden).to(hidden.dtype))
            of_hidden += low @ weight.to(dtype)
        return None, None, of_hidden * scale.unsqueeze(-1), *of_weights, *of_biases


def _evaluate(
    x: Tensor,
    log_size: Tensor,
    parameters: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    limit: float,
    one_dispersion: bool = False,
) -> Tensor:
    """Log-likelihood of each cell; ``parameters`` are overwritten with its derivatives.

    ``biases`` are added to the parameters first. Log mean and log dispersion are bounded to ± ``limit`` then, beyond which
    their derivative is 0, and ``log_size`` is added to the log mean. With ``one_dispersion`` the bias alone is each feature's
    log dispersion, whatever the parameter held.
    """
    tensors = (x, log_size, *parameters, *biases)
    if all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors):
        return _compiled(x, log_size, parameters, biases, limit, one_dispersion=one_dispersion)
    with torch.no_grad():
        if one_dispersion:
            parameters[1].zero_()
        for parameter, bias in zip(parameters, biases, strict=True):
            parameter.add_(bias)
        outside = [parameter.abs() > limit for parameter in parameters[:2]]
        for parameter in parameters[:2]:
            parameter.clamp_(-limit, limit)
        parameters[0].add_(log_size)
        total = _at_once(x, parameters)
        for parameter, mask in zip(parameters, outside, strict=False):
            parameter[mask] = 0
    return total


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads - 1, thread_name_prefix="scmag-likelihood")


# a forked process has the pool without its threads
_UNFORKED = os.getpid()


def _compiled(
    x: Tensor,
    log_size: Tensor,
    parameters: Sequence[Tensor],
    biases: Sequence[Tensor],
    limit: float,
    *,
    one_dispersion: bool,
) -> Tensor:
    """Cells are spread over threads, each of which lets go of the interpreter and waits for no other before its end."""
    total = torch.empty(len(x))
    arrays = [t.numpy() for t in (*parameters, total)]
    counts, sizes = x.contiguous().numpy(), log_size.numpy().ravel()
    shared = torch.stack(list(biases)).detach().numpy()

    # idle threads of torch wait busily for a while, so some of ours get less of the processor: pieces, for whoever is free
    n_threads = torch.get_num_threads() if os.getpid() == _UNFORKED and x.numel() > _FEW_ENTRIES else 1
    n_pieces = 1 if n_threads == 1 else 2 * n_threads
    cuts = [len(x) * i // n_pieces for i in range(n_pieces + 1)]
    pieces = map(slice, cuts[:-1], cuts[1:])

    def work() -> None:
        for rows in pieces:
            evaluate_rows(counts[rows], sizes[rows], shared, one_dispersion, limit, *(array[rows] for array in arrays))

    others = [_pool(n_threads).submit(work) for _ in range(n_threads - 1)]
    work()
    for other in others:
        other.result()
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

    gammas = torch.lgamma(count + theta) - torch.lgamma(theta) - torch.lgamma(count + 1)
    digammas = theta * (torch.digamma(count + theta) - torch.digamma(theta))
    stays = count * (1 - share)
    nonzero = count * (difference - ratio) - surplus + gammas - softplus(logits)
    value = torch.where(is_zero, (dropped / kept).log(), nonzero)
    torch.where(is_zero, rest * slope, stays - slope, out=log_mean)
    torch.where(is_zero, rest * (surplus - slope), slope - surplus + digammas - stays, out=log_dispersion)
    torch.where(is_zero, kept - dropped, -dropped, out=logits)
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
