"""The zero-inflated negative binomial and its derivatives in one pass over the rows, compiled (paper, eq. 22-27).

Loops without branches and without calls into a mathematical library, so that the compiler makes vector instructions of them:
hence the exponential and the logarithm below.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAST = {"contract", "nsz", "nnan"}  # nothing that would undo the rounding below
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves no digits behind the point
_ONE, _ZERO = np.float32(1), np.float32(0)
_LARGEST_SUM = 16  # counts up to here: Γ(x+θ)/Γ(θ) as a product
_LOG_FACTORIAL = np.array([math.lgamma(i + 1) for i in range(_LARGEST_SUM + 1)])


@njit(fastmath=_FAST)
def _exp(x: np.float32) -> np.float32:
    """Of x between -87 and 87, to a rounding or two (Cephes' polynomial)."""
    x = min(max(x, np.float32(-87)), np.float32(87))
    n = (x * _LOG2E + _ROUND) - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    scale = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + _ONE) * scale


@njit(fastmath=_FAST)
def _log1p(e: np.float32) -> np.float32:
    """Of e between 0 and 1, to a relative rounding or two: e times a polynomial, since divisions are slow."""
    p = np.float32(-3.2563785e-3)
    p = p * e + np.float32(1.9907161e-2)
    p = p * e + np.float32(-5.7064201e-2)
    p = p * e + np.float32(1.0614265e-1)
    p = p * e + np.float32(-1.5311863e-1)
    p = p * e + np.float32(1.9678117e-1)
    p = p * e + np.float32(-2.4954559e-1)
    p = p * e + np.float32(3.3330004e-1)
    p = p * e + np.float32(-4.9999904e-1)
    return e * (p * e + _ONE)


@njit(nogil=True, cache=True)
def _digamma(z: float) -> float:
    below = 0.0
    while z < 8:
        below += 1 / z
        z += 1
    r = 1 / (z * z)
    return math.log(z) - 0.5 / z - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240))) - below


@njit(nogil=True, cache=True)
def _gammas(x: float, theta: float) -> tuple[float, float]:
    """The logarithm of Γ(x+θ) / Γ(θ) x!, and θ times its derivative by θ."""
    if x <= _LARGEST_SUM and x == math.floor(x):
        product, slope = 1.0, 0.0
        for k in range(int(x)):
            slope = slope * (theta + k) + product
            product *= theta + k
        return math.log(product) - _LOG_FACTORIAL[int(x)], theta * slope / product
    return (
        math.lgamma(x + theta) - math.lgamma(theta) - math.lgamma(x + 1),
        theta * (_digamma(x + theta) - _digamma(theta)),
    )


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _exponentials(row: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    for j in range(len(row)):
        result[j] = _exp(row[j])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _at_zeros(
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    theta: NDArray[np.float32],
    value: NDArray[np.float32],
    by_dispersion: NDArray[np.float32],
) -> None:
    """A row as if all its counts were zero: log mean and logits, to which ``bias`` is added, become the derivatives by them.

    log p(0) = log σ(l) - log σ(l + t) with t = θ softplus(log μ - log θ): no gamma function is needed.
    """
    for j in range(len(value)):
        d = log_mean[j] - log_dispersion[j]
        e = _exp(-abs(d))
        slope = theta[j] * (_ONE if d >= _ZERO else e) / (_ONE + e)
        t = theta[j] * (max(d, _ZERO) + _log1p(e))
        logit = max(logits[j] + bias[j], np.float32(-80))
        e_dropped = _exp(-abs(logit))
        dropped = (_ONE if logit >= _ZERO else e_dropped) / (_ONE + e_dropped)
        reached = logit + t
        e_kept = _exp(-abs(reached))
        inverse = _ONE / (_ONE + e_kept)
        kept = (_ONE if reached >= _ZERO else e_kept) * inverse
        rest = (e_kept if reached >= _ZERO else _ONE) * inverse
        value[j] = _log1p(e_kept) - _log1p(e_dropped) - min(t, max(-logit, _ZERO))
        log_mean[j] = -rest * slope
        by_dispersion[j] = -rest * (t - slope)
        logits[j] = kept - dropped


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _at_nonzeros(
    count: NDArray[np.float32],
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    value: NDArray[np.float32],
) -> None:
    """The same of non-zero counts, whose terms of the gamma function ``value`` and ``count`` bring along."""
    for j in range(len(count)):
        theta = _exp(log_dispersion[j])
        d = log_mean[j] - log_dispersion[j]
        e = _exp(-abs(d))
        inverse = _ONE / (_ONE + e)
        softplus = max(d, _ZERO) + _log1p(e)
        slope = theta * (_ONE if d >= _ZERO else e) * inverse
        stays = count[j] * (e if d >= _ZERO else _ONE) * inverse
        logit = logits[j]
        e_dropped = _exp(-abs(logit))
        value[j] += count[j] * (d - softplus) - theta * softplus - max(logit, _ZERO) - _log1p(e_dropped)
        log_mean[j] = stays - slope
        log_dispersion[j] = slope - theta * softplus - stays
        logits[j] = -(_ONE if logit >= _ZERO else e_dropped) / (_ONE + e_dropped)


@njit(nogil=True, cache=True)
def _bounded(
    row: NDArray[np.float32],
    bias: NDArray[np.float32],
    limit: np.float32,
    shift: np.float32,
    outside: NDArray[np.bool_],
) -> int:
    """Add the bias to a row, bound it, then shift it, in place; how many were out of bounds, or -1 where one is not a number."""
    n_outside = 0
    for j in range(len(row)):
        value = row[j] + bias[j]
        outside[j] = not abs(value) <= limit
        n_outside += outside[j]
        row[j] = value + shift
    if n_outside:
        for j in range(len(row)):
            if outside[j]:
                if math.isnan(row[j]):
                    return -1
                row[j] = (limit if row[j] > shift else -limit) + shift
    return n_outside


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _sum(row: NDArray[np.float32]) -> np.float32:
    """In any order, so that the compiler adds many at a time."""
    total = _ZERO
    for j in range(len(row)):
        total += row[j]
    return total


@njit(nogil=True, cache=True)
def _zero_at(row: NDArray[np.float32], places: NDArray[np.bool_]) -> None:
    for j in range(len(row)):
        if places[j]:
            row[j] = _ZERO


@njit(nogil=True, cache=True, error_model="numpy")
def evaluate_rows(
    x: NDArray[np.float32],
    log_size: NDArray[np.float32],
    biases: NDArray[np.float32],
    one_dispersion: bool,  # noqa: FBT001  compiled code has no keywords
    limit: float,
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Log-likelihood of each row into ``total``; the parameters, each ``(n_rows, n_features)``, become its derivatives.

    ``biases``, ``(3, n_features)``, are added to the parameters first. Log mean and log dispersion are bounded to ± ``limit``
    then, beyond which the derivative is 0, and ``log_size``, ``(n_rows,)``, is added to the log mean. With
    ``one_dispersion`` the bias alone is each feature's log dispersion, in all rows.
    """
    n_rows, n_features = x.shape
    bound = np.float32(limit)
    value = np.empty(n_features, np.float32)
    log_theta = np.zeros(n_features, np.float32)
    theta = np.empty(n_features, np.float32)
    places = np.empty(n_features, np.int64)
    rare = np.empty((6, n_features), np.float32)
    outside = np.empty((2, n_features), np.bool_)
    for i in range(n_rows):
        mean, dispersion, logit = log_mean[i], log_dispersion[i], logits[i]
        n_bounded_means = _bounded(mean, biases[0], bound, log_size[i], outside[0])
        if i == 0 or not one_dispersion:
            if not one_dispersion:
                log_theta[:] = dispersion
            n_bounded_dispersions = _bounded(log_theta, biases[1], bound, _ZERO, outside[1])
            _exponentials(log_theta, theta)
        if min(n_bounded_means, n_bounded_dispersions) < 0:
            total[i] = math.nan
            continue
        n = 0
        for j in range(n_features):
            places[n] = j
            n += x[i, j] != _ZERO
        for k in range(n):
            j = places[k]
            rare[0, k], rare[1, k], rare[2, k], rare[3, k] = x[i, j], mean[j], log_theta[j], logit[j] + biases[2, j]
        for k in range(n):
            # Γ(1+θ) / Γ(θ) = θ
            rare[4, k], rare[5, k] = rare[2, k], _ONE
            if rare[0, k] != _ONE:
                rare[4, k], rare[5, k] = _gammas(float(rare[0, k]), math.exp(float(rare[2, k])))
        _at_zeros(mean, log_theta, logit, biases[2], theta, value, dispersion)
        _at_nonzeros(rare[0, :n], rare[1, :n], rare[2, :n], rare[3, :n], rare[4, :n])
        for k in range(n):
            j = places[k]
            value[j], mean[j], dispersion[j], logit[j] = rare[4, k], rare[1, k], rare[2, k] + rare[5, k], rare[3, k]
        if n_bounded_means:
            _zero_at(mean, outside[0])
        if n_bounded_dispersions:
            _zero_at(dispersion, outside[1])
        total[i] = _sum(value)
