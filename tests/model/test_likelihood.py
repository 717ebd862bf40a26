from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import digamma, expit, gammaln
from scvi.distributions import ZeroInflatedNegativeBinomial
from scvi.distributions._negative_binomial import log_zinb_positive

from scmag_muon.model import _likelihood
from scmag_muon.model._likelihood import LOG_LIMIT, zinb_log_likelihood, zinb_log_likelihood_of_heads
from scmag_muon.model._zinb import _gammas, _log, _sum_of_logs

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from torch import Tensor

KINDS = ["mixed", "zero", "nonzero"]


def parameters(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Log mean, log dispersion and dropout logit."""
    rng = np.random.default_rng(1)
    return [torch.as_tensor(rng.normal(size=shape) * spread, dtype=dtype) for spread in (1.5, 1.0, 2.0)]


def counts(kind: str, shape: tuple[int, int] = (30, 11), dtype: torch.dtype = torch.float64) -> Tensor:
    rng = np.random.default_rng(2)
    x = {"mixed": rng.negative_binomial(0.5, 0.1, shape), "zero": np.zeros(shape), "nonzero": 1 + rng.poisson(3, shape)}
    return torch.as_tensor(x[kind], dtype=dtype)


def gradients(function: object, *inputs: Tensor) -> list[Tensor]:
    leaves = [value.clone().requires_grad_() for value in inputs]
    weight = torch.linspace(0.5, 2, len(inputs[0]), dtype=inputs[0].dtype)
    return list(torch.autograd.grad((function(*leaves) * weight).sum(), leaves))


def plain_torch(x: Tensor, log_mean: Tensor, log_dispersion: Tensor, logits: Tensor) -> Tensor:
    """The same by scvi-tools, differentiated by autograd."""
    return log_zinb_positive(x, log_mean.exp(), log_dispersion.exp(), logits).sum(dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_is_eq_24(reference: ModuleType, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    x, given = counts(kind, dtype=dtype), parameters((30, 11), dtype)
    value = zinb_log_likelihood(x, *given)
    assert value.dtype == dtype
    log_mean, log_dispersion, logits = (p.double().numpy() for p in given)
    expected = reference.zinb_log(x.double().numpy(), expit(logits), np.exp(log_mean), np.exp(log_dispersion))
    np.testing.assert_allclose(value, expected.sum(axis=1), rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_scvi_tools(kind: str) -> None:
    x, (log_mean, log_dispersion, logits) = counts(kind), parameters((30, 11))
    other = ZeroInflatedNegativeBinomial(mu=log_mean.exp(), theta=log_dispersion.exp(), zi_logits=logits)
    value = zinb_log_likelihood(x, log_mean, log_dispersion, logits)
    torch.testing.assert_close(value, other.log_prob(x).sum(dim=1), rtol=1e-6, atol=1e-6)


def test_without_dropout_is_scipys_negative_binomial() -> None:
    x = torch.arange(60, dtype=torch.float64).unsqueeze(1)
    for mean, dispersion in ((0.3, 2.0), (8.0, 0.4), (40.0, 15.0)):
        fixed = [torch.full_like(x, value) for value in (np.log(mean), np.log(dispersion), -40.0)]
        expected = stats.nbinom.logpmf(x.numpy().ravel(), dispersion, dispersion / (dispersion + mean))
        np.testing.assert_allclose(zinb_log_likelihood(x, *fixed), expected, rtol=1e-9)


@pytest.mark.parametrize(("mean", "dispersion", "logit"), [(0.5, 0.7, -1.0), (12.0, 3.0, 0.4), (6.0, 6.0, -30.0)])
def test_probabilities_sum_to_one(mean: float, dispersion: float, logit: float) -> None:
    x = torch.arange(3000, dtype=torch.float64).unsqueeze(1)
    fixed = [torch.full_like(x, value) for value in (np.log(mean), np.log(dispersion), logit)]
    probability = zinb_log_likelihood(x, *fixed).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-9)
    assert (probability * x.ravel()).sum().item() == pytest.approx((1 - expit(logit)) * mean, rel=1e-9)


def test_eq_22_as_printed_is_no_distribution(reference: ModuleType) -> None:
    x, mean, dispersion = np.arange(3000.0), 2.0, 4.0
    with np.errstate(divide="ignore"):
        assert np.isinf(reference.nb_as_printed(x[:1], mean, dispersion))  # x in the place of Γ(x+1)
    assert reference.nb_as_printed(x[1:30], mean, dispersion).sum() > 1e6  # and without limit beyond
    # With Γ(x+1) put right, the second factor printed as θ/(θ+μ) still leaves a sum of (θ/μ)^θ.
    stay = dispersion / (dispersion + mean)
    factorial = np.exp(gammaln(x + dispersion) - gammaln(dispersion) - gammaln(x + 1))
    assert (factorial * stay**dispersion * stay**x).sum() == pytest.approx((dispersion / mean) ** dispersion)
    assert np.exp(reference.nb_log(x, mean, dispersion)).sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives(kind: str) -> None:
    x, given = counts(kind, (4, 3)), [p.requires_grad_() for p in parameters((4, 3))]
    assert torch.autograd.gradcheck(lambda *p: zinb_log_likelihood(x, *p), given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_derivatives_are_those_of_autograd(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    x, given = counts(kind), parameters((30, 11))
    expected = gradients(lambda *p: plain_torch(x, *p), *given)
    obtained = gradients(lambda *p: zinb_log_likelihood(x.to(dtype), *p), *(p.to(dtype) for p in given))
    for ours, theirs in zip(obtained, expected, strict=True):
        torch.testing.assert_close(ours, theirs.to(dtype), rtol=tolerance, atol=tolerance)


def test_derivatives_only_where_needed() -> None:
    x, (log_mean, log_dispersion, logits) = counts("mixed"), parameters((30, 11))
    logits.requires_grad_()
    zinb_log_likelihood(x, log_mean, log_dispersion, logits).sum().backward()
    assert logits.grad.abs().sum() > 0
    assert log_mean.grad is None
    assert not zinb_log_likelihood(x, log_mean, log_dispersion, logits.detach()).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(
        torch.tensor([0.0, 1.0, 1e5]),
        torch.tensor([-12.0, 12.0]),
        torch.tensor([-12.0, 12.0]),
        torch.tensor([-30.0, 30]),
    ).to(dtype)
    x, *given = (column.unsqueeze(1) for column in corners.unbind(dim=1))
    assert zinb_log_likelihood(x, *given).isfinite().all()
    for gradient in gradients(lambda *p: zinb_log_likelihood(x, *p), *given):
        assert gradient.isfinite().all()


def test_extremes_of_zero_counts_are_exact_in_single_precision() -> None:
    corners = torch.cartesian_prod(*[torch.linspace(-limit, limit, 9) for limit in (12, 12, 30)])
    given = [column.unsqueeze(1) for column in corners.unbind(dim=1)]
    single = zinb_log_likelihood(torch.zeros(len(corners), 1), *given)
    double = zinb_log_likelihood(torch.zeros(len(corners), 1).double(), *(p.double() for p in given))
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)


def of_all_heads(x: Tensor, *given: Tensor) -> Tensor:
    """Likelihood of the heads; ``given`` are log size factors, hidden layer, weights and biases, as :func:`heads` gives them."""
    return zinb_log_likelihood_of_heads(x, given[0], given[1], given[2:5], given[5:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_and_threads_do_not_matter(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, (log_size, hidden, weights, biases) = counts("mixed", dtype=dtype), heads()
    log_size, *given = (value.to(dtype) for value in (log_size, hidden, *weights, *biases))
    expected = [of_all_heads(x, log_size, *given), *gradients(lambda *p: of_all_heads(x, log_size, *p), *given)]
    before = torch.get_num_threads()
    for n_threads, sizes, n_blocks in (
        (1, (1, 4), 3),
        (2, (1, 3), 4),
        (3, (1, 99), 3),
        (20, (2, 2), 5),
        (2, (9, 9), 1),
    ):
        monkeypatch.setattr(_likelihood, "_FEATURES_OF_BLOCK", sizes)
        torch.set_num_threads(n_threads)
        try:
            assert len(_likelihood._blocks_of_features(x)) == n_blocks
            found, again = (
                [of_all_heads(x, log_size, *given), *gradients(lambda *p: of_all_heads(x, log_size, *p), *given)]
                for _ in range(2)
            )
        finally:
            torch.set_num_threads(before)
        for ours, repeated, theirs in zip(found, again, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
            assert torch.equal(ours, repeated)  # whichever thread was first


def test_in_inference_mode() -> None:
    x, (log_size, hidden, weights, biases) = counts("mixed", dtype=torch.float32), heads()
    given = [value.float() for value in (log_size, hidden, *weights, *biases)]
    expected = of_all_heads(x, *given)
    with torch.inference_mode():
        torch.testing.assert_close(of_all_heads(x.clone(), *(p.clone() for p in given)), expected)


@pytest.mark.parametrize("n_features", [1, 7, 8, 33, 1000])
def test_single_precision_is_double_precision_rounded(n_features: int) -> None:
    rng = np.random.default_rng(n_features)
    x = torch.as_tensor(rng.negative_binomial(0.3, 0.02, (40, n_features)) * (rng.random((40, n_features)) < 0.4))
    single = [torch.as_tensor(rng.normal(size=(40, n_features)) * 3, dtype=torch.float32) for _ in range(3)]
    given = [p.double() for p in single]
    exact = [
        zinb_log_likelihood(x.double(), *given),
        *gradients(lambda *p: zinb_log_likelihood(x.double(), *p), *given),
    ]
    rounded = [
        zinb_log_likelihood(x.float(), *single),
        *gradients(lambda *p: zinb_log_likelihood(x.float(), *p), *single),
    ]
    assert x.max() > 16 or n_features == 1
    for ours, theirs in zip(rounded, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("x", [0.5, 1.0, 2.0, 2.5, 3.0, 16.0, 17.0, 400.0, 1e5])
def test_gamma_terms_are_scipys(x: float) -> None:
    theta = np.exp(np.linspace(-LOG_LIMIT, LOG_LIMIT, 67)).astype(np.float32)
    log, slope = np.empty(67), np.empty(67)
    _gammas(np.full(67, x, np.float32), theta, log, slope)
    theta = theta.astype(float)
    assert log == pytest.approx(gammaln(x + theta) - gammaln(theta) - gammaln(x + 1), rel=1e-9, abs=1e-9)
    assert slope == pytest.approx(theta * (digamma(x + theta) - digamma(theta)), rel=1e-8)


def test_logarithm_is_numpys() -> None:
    z = np.concatenate([np.geomspace(1e-30, 1e300, 1001), 1 + np.geomspace(1e-15, 0.5, 100), [1.0, np.sqrt(0.5)]])
    np.testing.assert_allclose([_log(value) for value in z], np.log(z), rtol=1e-12)


@pytest.mark.parametrize("n_blocks", [1, 63, 64, 65, 200])
def test_sum_of_logarithms_is_numpys(n_blocks: int) -> None:
    blocks = np.exp(np.random.default_rng(0).uniform(-80, 3, (n_blocks, 64))).astype(np.float32)
    assert _sum_of_logs(blocks) == pytest.approx(np.log(blocks.astype(float)).sum(), rel=1e-7)
    for value in (1.0, 1.99):  # the largest mantissas
        assert _sum_of_logs(np.full_like(blocks, value)) == pytest.approx(blocks.size * np.log(value), rel=1e-6)


def test_what_is_not_a_number_is_seen() -> None:
    x, given = counts("mixed", dtype=torch.float32), parameters((30, 11), torch.float32)
    given[0][3, 4] = torch.nan
    assert zinb_log_likelihood(x, *given).isnan().nonzero().ravel().tolist() == [3]


def heads(shift: float = 0.0) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Log size factors, hidden layer, weights and biases for 30 cells, 5 hidden units and 11 features."""
    rng = np.random.default_rng(3)
    log_size, hidden = (torch.as_tensor(rng.normal(size=shape)) for shape in ((30, 1), (30, 5)))
    weights = [torch.as_tensor(rng.normal(size=(11, 5)) * 0.5) for _ in range(3)]
    biases = [torch.as_tensor(rng.normal(size=11)) + shift for _ in range(3)]
    return log_size, hidden, weights, biases


def of_separate_heads(x: Tensor, log_size: Tensor, hidden: Tensor, *heads: Tensor) -> Tensor:
    """Heads and likelihood one after the other, differentiated by autograd."""
    mean, dispersion, logits = (
        torch.nn.functional.linear(hidden, w, b) for w, b in zip(heads[:3], heads[3:], strict=True)
    )
    mean, dispersion = (value.clamp(-LOG_LIMIT, LOG_LIMIT) for value in (mean, dispersion))
    return zinb_log_likelihood(x, mean + log_size, dispersion, logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0.0, 11.0, -11.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
def test_heads_and_likelihood_in_one(kind: str, shift: float, dtype: torch.dtype, tolerance: float) -> None:
    x, log_size, hidden, weights, biases = (counts(kind), *heads(shift))
    x, log_size, hidden = x.to(dtype), log_size.to(dtype), hidden.to(dtype)
    weights, biases = [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]
    inputs = [hidden, *weights, *biases]
    bounded = torch.nn.functional.linear(hidden, weights[1], biases[1]).abs() > LOG_LIMIT
    assert bounded.any() == (shift != 0)

    def together(hidden: Tensor, *heads: Tensor) -> Tensor:
        return zinb_log_likelihood_of_heads(x, log_size, hidden, heads[:3], heads[3:])

    def one_by_one(hidden: Tensor, *heads: Tensor) -> Tensor:
        return of_separate_heads(x, log_size, hidden, *heads)

    torch.testing.assert_close(together(*inputs), one_by_one(*inputs), rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(gradients(together, *inputs), gradients(one_by_one, *inputs), strict=True):
        scale = theirs.abs().max().item() if dtype == torch.float32 else 1
        torch.testing.assert_close(ours, theirs, rtol=10 * tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("shift", [0.0, 11.0, -11.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 2e-4)])
def test_one_dispersion_for_all_cells(shift: float, dtype: torch.dtype, tolerance: float) -> None:
    x, log_size, hidden, weights, biases = (counts("mixed"), *heads(shift))
    x, log_size, hidden = x.to(dtype), log_size.to(dtype), hidden.to(dtype)
    mean, _, logits = (w.to(dtype) for w in weights)
    biases = [b.to(dtype) for b in biases]
    assert (biases[1].abs() > LOG_LIMIT).any() == (shift != 0)
    inputs = [hidden, mean, logits, *biases]

    def together(hidden: Tensor, mean: Tensor, logits: Tensor, *biases: Tensor) -> Tensor:
        return zinb_log_likelihood_of_heads(x, log_size, hidden, [mean, None, logits], biases)

    def one_by_one(hidden: Tensor, mean: Tensor, logits: Tensor, *biases: Tensor) -> Tensor:
        return of_separate_heads(x, log_size, hidden, mean, torch.zeros_like(mean), logits, *biases)

    torch.testing.assert_close(together(*inputs), one_by_one(*inputs), rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(gradients(together, *inputs), gradients(one_by_one, *inputs), strict=True):
        scale = theirs.abs().max().item() if dtype == torch.float32 else 1
        torch.testing.assert_close(ours, theirs, rtol=10 * tolerance, atol=tolerance * scale)


def test_heads_in_half_precision() -> None:
    x, (log_size, hidden, weights, biases) = counts("mixed").float(), heads()
    inputs = [value.float() for value in (hidden, *weights, *biases)]

    def together(hidden: Tensor, *heads: Tensor) -> Tensor:
        return zinb_log_likelihood_of_heads(x, log_size.float(), hidden, heads[:3], heads[3:])

    exact = gradients(together, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        value = together(*inputs)
        rounded = gradients(together, *inputs)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, together(*inputs), rtol=0.02, atol=0.05)
    assert not torch.equal(value, together(*inputs))
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


def test_no_cells_and_no_features() -> None:
    assert zinb_log_likelihood(*(torch.zeros(0, 4),) * 4).shape == (0,)
    assert zinb_log_likelihood(*(torch.zeros(4, 0),) * 4).tolist() == [0] * 4


def test_inputs_stay_as_they_are() -> None:
    x, given = counts("mixed"), parameters((30, 11))
    before = [value.clone() for value in (x, *given)]
    gradients(lambda *p: zinb_log_likelihood(x, *p), *given)
    for value, copy in zip((x, *given), before, strict=True):
        assert torch.equal(value, copy)


@pytest.mark.parametrize("log_theta", [-3.0, 3.0, 4.4, 4.6, 7.0, 10.0, 12.0])
def test_derivative_by_large_dispersions_on_a_gpu(log_theta: float) -> None:
    """θ (ψ(x+θ) - ψ(θ)) - x is the negative sum of i / (θ+i) over the integers i below x: no digits are lost."""
    pairs = [(x, log_mean) for x in (1, 2, 10, 100, 1000) for log_mean in (0.0, 2.5, 4.5, 7.0)]
    x, log_mean = np.array(pairs, dtype=np.float64).T
    given = [torch.tensor(p[:, None]) for p in (log_mean, np.full(len(x), log_theta), np.full(len(x), 1.0))]
    single = [p.float() for p in given]
    log_mean, log_theta = single[0].double().numpy().ravel(), float(single[1][0])
    theta, mean = np.exp(log_theta), np.exp(log_mean)
    sums = np.array([(np.arange(n) / (theta + np.arange(n))).sum() for n in x])
    exact = mean * (x + theta) / (theta + mean) - theta * np.log1p(mean / theta) - sums
    gammas = gammaln(x + theta) - gammaln(theta) - gammaln(x + 1)
    value = gammas + x * (log_mean - log_theta) - (theta + x) * np.log1p(mean / theta) - np.log1p(np.exp(1.0))
    found = _likelihood._at_once(torch.tensor(x[:, None], dtype=torch.float32), single)  # what a GPU computes
    # what rounding of terms as large as counts and means leaves
    assert (np.abs(single[1].numpy().ravel() - exact) <= 0.005 * np.abs(exact) + 2e-7 * (x + mean)).all()
    np.testing.assert_allclose(found.numpy(), value, rtol=5e-4, atol=1e-3)


BITS = """
import hashlib
import torch
from scmag_muon.model._likelihood import zinb_log_likelihood
torch.manual_seed(0)
x = torch.poisson(torch.full((256, 400), 0.5))
parameters = [torch.randn(256, 400, requires_grad=True) for _ in range(3)]
zinb_log_likelihood(x, *parameters).sum().backward()
print([hashlib.sha256(p.grad.numpy().tobytes()).hexdigest() for p in parameters])
"""


def test_process_that_compiles_and_one_that_reads_the_compiled_code_give_the_same_bits(tmp_path: Path) -> None:
    of_caches = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BITS], env=of_caches, check=True, capture_output=True
        ).stdout
        for _ in range(2)
    )
    assert first == second
