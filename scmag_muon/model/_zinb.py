"""The zero-inflated negative binomial and its derivatives in one pass over the rows, compiled (paper, eq. 22-27).

Loops without branches and without calls into a mathematical library, so that the compiler makes vector instructions of them:
hence the exponential and the logarithm below.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAST = {"contract", "nsz", "nnan"}  # nothing that would undo the rounding below
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# adding 1.5 * 2^23 leaves no digits behind the point, and those before it in the last bits
_ROUND = np.float32(12582912.0)
_ONE, _ZERO, _MOST = np.float32(1), np.float32(0), np.float32(87)  # e^-87 is still a normal number
_LANES = 64

_LN2 = math.log(2)
_ROUND_DOUBLE = 1.5 * 2.0**52
_HALF_ROOT = np.float64(math.sqrt(0.5)).view(np.int64)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@njit(fastmath=_FAST)
def _exp(x: np.float32) -> np.float32:
    """Of x between -87 and 87, to a rounding or two (Cephes' polynomial, its terms in pairs)."""
    n = x * _LOG2E + _ROUND
    power = np.int32(np.float32(n).view(np.int32) << np.int32(23))
    n = n - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    s = r * r
    p = np.float32(1.3981999507e-3) + r * np.float32(1.9875691500e-4)
    p = np.float32(4.1665795894e-2) + r * np.float32(8.3334519073e-3) + s * p
    p = np.float32(5.0000001201e-1) + r * np.float32(1.6666665459e-1) + s * p
    return np.int32(np.float32(p * s + (r + _ONE)).view(np.int32) + power).view(np.float32)


@njit(fastmath=_FAST)
def _log1p(e: np.float32) -> np.float32:
    """Of e between 0 and 1, to a relative rounding or two: e times a polynomial, since divisions are slow."""
    s = e * e
    p = np.float32(-1.5311863e-1) + e * np.float32(1.0614265e-1)
    q = np.float32(-5.7064201e-2) + e * np.float32(1.9907161e-2)
    high = p + s * q + s * s * np.float32(-3.2563785e-3)
    p = np.float32(-4.9999904e-1) + e * np.float32(3.3330004e-1)
    q = np.float32(-2.4954559e-1) + e * np.float32(1.9678117e-1)
    return e * ((p + s * q + s * s * high) * e + _ONE)


@njit(fastmath=_FAST, error_model="numpy")
def _log(z: float) -> float:
    """Of a positive number: its exponent, and twice the area tangent of a mantissa between √½ and √2."""
    bits = np.float64(z).view(np.int64) - _HALF_ROOT
    exponent = np.int64((bits >> 52) + np.int64(0x4338000000000000)).view(np.float64) - _ROUND_DOUBLE
    m = np.int64((bits & np.int64(0xFFFFFFFFFFFFF)) + _HALF_ROOT).view(np.float64)
    s = (m - 1) / (m + 1)
    q = s * s
    p = 2 / 9 + q * (2 / 11 + q * (2 / 13 + q * (2 / 15)))
    return exponent * _LN2 + s * (2 + q * (2 / 3 + q * (2 / 5 + q * (2 / 7 + q * p))))


@njit(fastmath=_FAST)
def _stirling(r: float) -> float:
    """What Stirling's formula leaves of log Γ(z), for r = 1/z and z of at least 4, to 5e-10."""
    q = r * r
    return r * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680 - q / 1188))))


@njit(fastmath=_FAST)
def _digamma_rest(r: float) -> float:
    """What is to be taken from log z for digamma of z, to 7e-9."""
    q = r * r
    return 0.5 * r + q * (1 / 12 - q * (1 / 120 - q * (1 / 252 - q / 240)))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _gammas(
    count: NDArray[np.float32], theta: NDArray[np.float32], value: NDArray[np.float32], slope: NDArray[np.float32]
) -> None:
    """The logarithm of Γ(x+θ) / Γ(θ) x!, and θ times its derivative by θ.

    Stirling's formula four above each argument; z (z+1) (z+2) (z+3) = u (u+2) with u = z (z+3) leads back to it.
    """
    for k in range(len(count)):
        x, t = np.float64(count[k]), np.float64(theta[k])
        y, c = x + t, x + 1
        a, b, f = 1 / (t + 4), 1 / (y + 4), 1 / (c + 4)
        u, v, w = t * (t + 3), y * (y + 3), c * (c + 3)
        of_t, of_y, of_c = u * (u + 2), v * (v + 2), w * (w + 2)
        ratio = _log((y + 4) * a)
        value[k] = (
            (t + 3.5) * ratio
            + x * _log(y + 4)
            - (c + 3.5) * _log(c + 4)
            + (5 - _HALF_LOG_2PI)
            + (_stirling(b) - _stirling(a) - _stirling(f))
            + _log(of_t * of_c / of_y)
        )
        steps = (2 * t + 3) * (2 * u + 2) / of_t - (2 * y + 3) * (2 * v + 2) / of_y
        slope[k] = t * (ratio + (_digamma_rest(a) - _digamma_rest(b)) + steps)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _exponentials(row: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    for j in range(len(row)):
        result[j] = _exp(min(max(row[j], -_MOST), _MOST))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _at_zeros(
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    bias: NDArray[np.float32],
    theta: NDArray[np.float32],
    probability: NDArray[np.float32],
    by_dispersion: NDArray[np.float32],
) -> None:
    """A row as if all its counts were zero: log mean and logits, to which ``bias`` is added, become the derivatives by them.

    p(0) = σ(l) / σ(l + t) with t = θ softplus(log μ - log θ): no gamma function is needed.
    """
    for j in range(len(probability)):
        d = log_mean[j] - log_dispersion[j]
        e = _exp(max(-abs(d), -_MOST))
        inverse = _ONE / (_ONE + e)
        slope = theta[j] * (inverse if d >= _ZERO else e * inverse)
        t = theta[j] * (max(d, _ZERO) + _log1p(e))
        logit = min(max(logits[j] + bias[j], np.float32(-80)), _MOST)
        e_dropped, e_kept = _exp(-logit), _exp(-min(logit + t, _MOST))
        dropped, kept = _ONE / (_ONE + e_dropped), _ONE / (_ONE + e_kept)
        rest = e_kept * kept
        probability[j] = (_ONE + e_kept) * dropped
        log_mean[j] = -rest * slope
        by_dispersion[j] = rest * (slope - t)
        logits[j] = kept - dropped


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _at_nonzeros(
    count: NDArray[np.float32],
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    theta: NDArray[np.float32],
    value: NDArray[np.float32],
) -> None:
    """The same of non-zero counts; ``value`` brings their terms of the gamma function along and becomes the log-likelihood."""
    for j in range(len(count)):
        d = log_mean[j] - log_dispersion[j]
        e = _exp(max(-abs(d), -_MOST))
        inverse = _ONE / (_ONE + e)
        softplus = max(d, _ZERO) + _log1p(e)
        slope = theta[j] * (_ONE if d >= _ZERO else e) * inverse
        stays = count[j] * (e if d >= _ZERO else _ONE) * inverse
        logit = logits[j]
        e_dropped = _exp(max(-abs(logit), -_MOST))
        value[j] += count[j] * (d - softplus) - theta[j] * softplus - max(logit, _ZERO) - _log1p(e_dropped)
        log_mean[j] = stays - slope
        log_dispersion[j] = slope - theta[j] * softplus - stays
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


@njit(nogil=True, cache=True, error_model="numpy", fastmath=_FAST)
def _sum_of_logs(blocks: NDArray[np.float32]) -> float:
    """Of positive, normal numbers in rows of ``_LANES``: logarithms of products of mantissas, beside the sum of exponents."""
    mantissas = np.ones(_LANES, np.float32)
    exponents = np.zeros(_LANES, np.int32)
    total = 0.0
    for i in range(len(blocks)):
        for k in range(_LANES):
            bits = np.float32(blocks[i, k]).view(np.int32)
            exponents[k] += (bits >> np.int32(23)) - np.int32(127)
            mantissas[k] *= np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
        if i % 64 == 63 or i == len(blocks) - 1:  # each product is below 2^64, that of eight of them below 2^512
            for k in range(8):
                product = 1.0
                for lane in range(k, _LANES, 8):
                    product *= float(mantissas[lane])
                total += _log(product)
            mantissas[:] = _ONE
    return total + exponents.sum() * _LN2


@njit(nogil=True, cache=True)
def _zero_at(row: NDArray[np.float32], places: NDArray[np.bool_]) -> None:
    for j in range(len(row)):
        if places[j]:
            row[j] = _ZERO


@functools.cache
def load_parts() -> None:
    """Load what :func:`evaluate_rows` calls, before that is loaded itself.

    Of two compiled copies of a function, its own and the one within its caller, a process takes the one that it loaded first, and
    they may round differently. A process that compiles has the own ones first, and one that reads its cache only the others.
    """
    row, places = np.ones(_LANES, np.float32), np.zeros(_LANES, np.bool_)
    _gammas(row, row, row.copy(), row.copy())
    _exponentials(row, row.copy())
    _at_zeros(row.copy(), row, row.copy(), row, row, row.copy(), row.copy())
    _at_nonzeros(row, row.copy(), row.copy(), row.copy(), row, row.copy())
    _bounded(row.copy(), row, np.float32(15), _ZERO, places.copy())
    _sum(row)
    _sum_of_logs(row[None])
    _zero_at(row.copy(), places)


@njit(nogil=True, cache=True, error_model="numpy")
def evaluate_rows(
    x: NDArray[np.float32],
    start: int,
    log_size: NDArray[np.float32],
    one_dispersion: bool,  # noqa: FBT001  compiled code has no keywords
    limit: float,
    biases: NDArray[np.float32],
    log_mean: NDArray[np.float32],
    log_dispersion: NDArray[np.float32],
    logits: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Log-likelihood of each row into ``total``; the parameters, each ``(n_rows, n_features)``, become its derivatives.

    They are those of the columns of ``x`` from ``start`` on. ``biases``, ``(3, n_features)``, are added first. Log mean and log
    dispersion are bounded to ± ``limit`` then, beyond which the derivative is 0, and ``log_size``, ``(n_rows,)``, is added to
    the log mean. With ``one_dispersion`` the bias alone is each feature's log dispersion, in all rows.
    """
    n_rows, n_features = log_mean.shape
    bound = np.float32(limit)
    blocks = np.ones((-(-n_features // _LANES), _LANES), np.float32)
    probability = blocks.ravel()[:n_features]
    log_theta = np.zeros(n_features, np.float32)
    theta = np.empty(n_features, np.float32)
    places, above_one = np.empty(n_features, np.int32), np.empty(n_features, np.int32)
    rare = np.empty((7, n_features), np.float32)
    rarer = np.empty((4, n_features), np.float32)
    outside = np.empty((2, n_features), np.bool_)
    for i in range(n_rows):
        counts = x[i, start : start + n_features]
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
            n += counts[j] != _ZERO
        m = 0
        for k in range(n):
            j = places[k]
            rare[0, k], rare[1, k], rare[2, k], rare[3, k] = counts[j], mean[j], log_theta[j], logit[j] + biases[2, j]
            # Γ(1+θ) / Γ(θ) = θ
            rare[4, k], rare[5, k], rare[6, k] = theta[j], log_theta[j], _ONE
            rarer[0, m], rarer[1, m], above_one[m] = counts[j], theta[j], k
            m += counts[j] != _ONE
        _gammas(rarer[0, :m], rarer[1, :m], rarer[2], rarer[3])
        for k in range(m):
            rare[5, above_one[k]], rare[6, above_one[k]] = rarer[2, k], rarer[3, k]
        _at_zeros(mean, log_theta, logit, biases[2], theta, probability, dispersion)
        _at_nonzeros(rare[0, :n], rare[1], rare[2], rare[3], rare[4], rare[5])
        for k in range(n):
            j = places[k]
            probability[j], mean[j], dispersion[j], logit[j] = _ONE, rare[1, k], rare[2, k] + rare[6, k], rare[3, k]
        if n_bounded_means:
            _zero_at(mean, outside[0])
        if n_bounded_dispersions:
            _zero_at(dispersion, outside[1])
        total[i] = _sum_of_logs(blocks) + _sum(rare[5, :n])
