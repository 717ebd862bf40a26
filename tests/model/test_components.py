from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from scmag_muon.model._components import (
    PANEL,
    WIDE,
    CodePredictor,
    InputNoise,
    JointEncoder,
    Widths,
    ZINBDecoder,
    without_one,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    Weights = Callable[[nn.Module], list[tuple[np.ndarray, np.ndarray]]]


def encoder(n_inputs: Sequence[int] = (12, 5), noise_scale: Sequence[float] = (0.0, 0.0)) -> JointEncoder:
    made = JointEncoder(n_inputs, (WIDE, PANEL), noise_scale)
    return shaken(made)


def shaken(module: Any) -> Any:
    """With random weights in the normalisations too, which start at 1 and 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def linear_shapes(module: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_fused_space_is_eq_14_15(reference: ModuleType, weights: Weights) -> None:
    made = encoder()
    inputs = [torch.randn(20, n) for n in (12, 5)]
    own, shared = [weights(part) for part in made.own], weights(made.shared)
    assert [weight.ndim for weight, _ in own[0]] == [2, 1, 2, 1]
    assert [weight.ndim for weight, _ in shared] == [2, 1, 2]
    expected = reference.fused_space([x.double().numpy() for x in inputs], own, shared)
    with torch.no_grad():
        z1 = made(inputs)
    assert z1.shape == (20, 32)
    np.testing.assert_allclose(z1, expected, rtol=1e-4, atol=1e-5)


def test_halves_of_fused_space_follow_the_modalities() -> None:
    made = encoder()
    rna, protein = torch.randn(20, 12), torch.randn(20, 5)
    with torch.no_grad():
        z1, other_rna, other_protein = made([rna, protein]), made([rna + 1, protein]), made([rna, protein + 1])
    torch.testing.assert_close(other_rna[:, 16:], z1[:, 16:])
    torch.testing.assert_close(other_protein[:, :16], z1[:, :16])
    assert not torch.allclose(other_rna[:, :16], z1[:, :16])
    assert not torch.allclose(other_protein[:, 16:], z1[:, 16:])


def test_last_layers_are_shared_and_first_are_not() -> None:
    made = JointEncoder((5, 5), (PANEL, PANEL), (0.0, 0.0))
    x = torch.randn(20, 5)
    assert not torch.allclose(*made([x, x]).chunk(2, dim=1))
    made.own[1].load_state_dict(made.own[0].state_dict())
    torch.testing.assert_close(*made([x, x]).chunk(2, dim=1))

    for half in (0, 1):
        made.zero_grad()
        made([x, x]).chunk(2, dim=1)[half].square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in made.shared.parameters())
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in made.own[1 - half].parameters())


@pytest.mark.parametrize(
    ("width", "own", "decoder"),
    [(PANEL, [(7, 64)], [(32, 64)]), (WIDE, [(7, 256), (256, 64)], [(32, 64), (64, 256)])],
)
def test_widths_of_section_2_4(width: Widths, own: list[tuple[int, int]], decoder: list[tuple[int, int]]) -> None:
    widths = WIDE, width
    made = JointEncoder((30, 7), widths, (0.0, 0.0))
    assert linear_shapes(made.own[0]) == [(30, 256), (256, 64)]
    assert linear_shapes(made.own[1]) == own
    assert linear_shapes(made.shared) == [(64, 32), (32, 16)]
    rna, other = (ZINBDecoder(32, n, width, n_batch=1) for n, width in zip((30, 7), widths, strict=True))
    assert linear_shapes(rna) == [(32, 64), (64, 256)] + [(256, 30)] * 3
    assert linear_shapes(other) == decoder + [(decoder[-1][1], 7)] * 3


def test_noise_of_eq_13() -> None:
    made = JointEncoder((50, 50), (WIDE, PANEL), (2.0, 1.5))
    made.own, made.shared = nn.ModuleList([nn.Identity(), nn.Identity()]), nn.Identity()
    inputs = torch.full((2000, 50), 3.0), torch.full((2000, 50), -1.0)
    noisy = made(inputs)
    for x, block, scale in zip(inputs, (noisy[:, :50], noisy[:, 50:]), (2.0, 1.5), strict=True):
        noise = (block - x) / scale
        n_sd = 1 / noise.numel() ** 0.5
        assert abs(noise.mean().item()) < 5 * n_sd
        assert noise.std().item() == pytest.approx(1, abs=5 * n_sd)
        assert (noise.std(dim=0) - 1).abs().max() < 0.1  # of each feature
        assert (noise.std(dim=1) - 1).abs().max() < 0.6  # of each cell
        assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.15)  # normal
    of_rna, of_protein = noisy[:, :50] - 3, noisy[:, 50:] + 1
    assert abs((of_rna * of_protein).mean().item() / 3) < 0.02  # drawn for each modality
    assert not torch.equal(made(inputs), noisy)
    torch.testing.assert_close(made.eval()(inputs), torch.cat(inputs, dim=1), rtol=0, atol=0)


def test_noise_is_never_at_the_same_place_twice() -> None:
    noise, x = InputNoise(), torch.zeros(30, 50)
    uses = [noise.like(x).clone() for _ in range(17)]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(uses, 2))
    assert all(abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.15 for one, other in itertools.pairwise(uses))
    drawn = noise.drawn
    wider = noise.like(torch.zeros(30, 4000))  # more than stands ready
    assert wider.shape == (30, 4000)
    assert noise.drawn is not drawn
    assert wider.std().item() == pytest.approx(1, abs=0.02)


def test_noise_has_the_precision_of_the_input() -> None:
    noise = InputNoise()
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert noise.like(torch.zeros(3, 4, dtype=dtype)).dtype == dtype


def test_noise_is_drawn_anew_after_sixteen_minibatches() -> None:
    noise, x = InputNoise(), torch.zeros(30, 50)
    drawn = []
    for _ in range(33):
        noise.like(x)
        drawn.append(noise.drawn)
    assert [i for i in range(1, 33) if drawn[i] is not drawn[i - 1]] == [16, 32]


def test_no_noise_at_scale_zero() -> None:
    made = encoder(noise_scale=(1.0, 0.0))
    inputs = torch.randn(20, 12), torch.randn(20, 5)
    with torch.no_grad():
        noisy, clean = made(inputs), made.eval()(inputs)
    torch.testing.assert_close(noisy[:, 16:], clean[:, 16:], rtol=0, atol=0)
    assert not torch.allclose(noisy[:, :16], clean[:, :16])


def test_predictor_takes_the_mean_of_the_codes_that_are_there() -> None:
    predictor, z1 = CodePredictor(3), torch.randn(2, 48)
    with torch.no_grad():
        filled = predictor(z1, torch.tensor([[True, False, True], [False, False, True]]))
        first, third = z1[:, :16], z1[:, 32:]
        expected = torch.cat([first[0], predictor.linear[1]((first[0] + third[0]) / 2), third[0]])
        torch.testing.assert_close(filled[0], expected)
        alone = torch.cat([predictor.linear[0](third[1]), predictor.linear[1](third[1]), third[1]])
        torch.testing.assert_close(filled[1], alone)


def test_one_modality_is_taken_from_a_share_of_the_cells() -> None:
    present = torch.rand(20_000, 3) < 0.7
    present[~present.any(dim=1), 0] = True
    kept = without_one(present, 0.3)
    taken = present & ~kept
    assert not (kept & ~present).any()
    assert taken.sum(dim=1).max() == 1
    assert kept.any(dim=1).all()
    complete = present.all(dim=1)
    assert taken[complete].any(dim=1).float().mean().item() == pytest.approx(0.3, abs=0.02)
    for column in taken[complete].T:
        assert column.float().mean().item() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("n_batch", [1, 3])
def test_decoder_is_eq_19_21(reference: ModuleType, weights: Weights, n_batch: int) -> None:
    decoder = shaken(ZINBDecoder(32, 6, WIDE, n_batch))
    zr, batch = torch.randn(20, 32), torch.arange(20).remainder(n_batch).unsqueeze(1)
    one_hot = np.eye(n_batch)[batch.ravel().numpy()] if n_batch > 1 else np.empty((20, 0))
    beside = np.concatenate([zr.double().numpy(), one_hot], axis=1)
    heads = [weights(head)[0] for head in decoder.heads]
    expected = reference.decoder(beside, np.ones(20), weights(decoder.trunk), heads)
    with torch.no_grad():
        log_mean, log_dispersion, logits = decoder(zr, batch)
    for value, of_paper in zip((log_mean.exp(), log_dispersion.exp(), logits.sigmoid()), expected, strict=True):
        assert value.shape == (20, 6)
        np.testing.assert_allclose(value, of_paper, rtol=1e-4)


def test_heads_are_linear() -> None:
    decoder = ZINBDecoder(32, 6, PANEL, n_batch=1)
    decoder.trunk = nn.Identity()
    decoder.heads = nn.ModuleList(nn.Linear(32, 6) for _ in range(3))
    a, b, batch = torch.randn(8, 32), torch.randn(8, 32), torch.zeros(8, 1)
    middle, ends = decoder((a + b) / 2, batch), zip(decoder(a, batch), decoder(b, batch), strict=True)
    for value, (first, second) in zip(middle, ends, strict=True):
        torch.testing.assert_close(value, (first + second) / 2)


def test_batch_matters_to_decoders() -> None:
    decoder, zr = ZINBDecoder(32, 6, PANEL, n_batch=2), torch.randn(1, 32).expand(4, 32)
    for value in decoder(zr, torch.tensor([[0], [0], [1], [1]])):
        torch.testing.assert_close(value[0], value[1])
        torch.testing.assert_close(value[2], value[3])
        assert not torch.allclose(value[0], value[2])
    alone = ZINBDecoder(32, 6, PANEL, n_batch=1)
    for first, second in zip(alone(zr, torch.zeros(4, 1)), alone(zr, torch.ones(4, 1)), strict=True):
        assert torch.equal(first, second)


def test_batch_enters_decoders_only(make_module: Callable[..., Any], tensors: dict[str, torch.Tensor]) -> None:
    one, two = make_module(n_batch=1), make_module(n_batch=2).eval()
    sizes = [{name: value.shape for name, value in module.state_dict().items()} for module in (one, two)]
    differing = {name for name in sizes[0] if sizes[0][name] != sizes[1][name]}
    assert differing == {"decoders.0.trunk.0.weight", "decoders.1.trunk.0.weight"}
    swapped = tensors | {"batch": 1 - tensors["batch"]}
    (latent, before), (same_latent, after) = (two(minibatch, compute_loss=False) for minibatch in (tensors, swapped))
    assert torch.equal(latent["zr"], same_latent["zr"])
    assert torch.equal(latent["zc"], same_latent["zc"])
    assert not torch.allclose(before["hidden"][1], after["hidden"][1])


def test_decoder_keeps_mean_and_dispersion_finite() -> None:
    decoder = ZINBDecoder(32, 6, PANEL, n_batch=1)
    for head in decoder.heads:
        nn.init.constant_(head.bias, 500.0)
    log_mean, log_dispersion, logits = decoder(torch.randn(4, 32), torch.zeros(4, 1))
    assert log_mean.max() == log_dispersion.max() == 12
    assert logits.max() > 400
