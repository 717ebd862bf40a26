from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from scmag_muon.model._clustering import soft_assignment, squared_distances
from scmag_muon.model._components import PANEL, WIDE, InputNoise
from scmag_muon.model._likelihood import zinb_log_likelihood
from scmag_muon.model._module import PRESENT, counts_key, input_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from scmag_muon.model._module import SCMAGModule

    Make = Callable[..., SCMAGModule]
    Tensors = dict[str, torch.Tensor]
    Weights = Callable[[torch.nn.Module], list[tuple[np.ndarray, np.ndarray]]]

STAGES = {1: (0.0, 0.0), 2: (0.2, 0.0), 3: (0.2, 0.7)}


def run(module: SCMAGModule, tensors: Tensors, **weights: float) -> tuple[dict[str, Any], dict[str, Any], Any]:
    return module(tensors, loss_kwargs=weights)


def at_stage(module: SCMAGModule, stage: int) -> SCMAGModule:
    module.stage.fill_(stage)
    return module


def array(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().numpy()


def test_z2_is_eq_15(make_module: Make) -> None:
    module = make_module()
    cell = [torch.randn(1, n).expand(20_000, n) for n in (12, 5)]
    with torch.no_grad():
        drawn = module.inference(cell)
        fixed = module.eval().inference(cell)
    noise = (drawn["z2"] - drawn["mean"]) / (drawn["log_variance"] / 2).exp()
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert (noise.std(dim=0) - 1).abs().max() < 0.03
    assert np.abs(np.corrcoef(noise.T) - np.eye(32)).max() < 0.05
    assert drawn["log_variance"][0].std() > 0.05  # so that the standard deviation is not that of any dimension
    assert torch.equal(fixed["z2"], fixed["mean"])
    torch.testing.assert_close(fixed["mean"], drawn["mean"])


def test_mean_and_variance_are_linear_in_z1(make_module: Make, tensors: Tensors, weights: Weights) -> None:
    module = make_module().eval()
    inference, _, _ = run(module, tensors)
    (weight, bias) = weights(module.posterior)[0]
    both = array(inference["z1"]) @ weight.T + bias
    np.testing.assert_allclose(array(inference["mean"]), both[:, :32], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(inference["log_variance"]), both[:, 32:], rtol=1e-4, atol=1e-5)


def test_log_variance_is_limited(make_module: Make, tensors: Tensors) -> None:
    module = make_module()
    torch.nn.init.constant_(module.posterior.bias, 1e4)
    inference, _, output = run(module, tensors, kl_weight=0.01)
    assert inference["log_variance"].unique().tolist() == [10]
    assert output.loss.isfinite()


@pytest.mark.parametrize("eta", [0.3, 0.0])
def test_zr_is_eq_16(make_module: Make, tensors: Tensors, eta: float) -> None:
    inference, _, _ = run(make_module(residual_weight=eta), tensors)
    expected = array(inference["z2"]) + eta * array(inference["z1"])
    np.testing.assert_allclose(array(inference["zr"]), expected, rtol=1e-5, atol=1e-6)


def test_zc_waits_for_stage_3(make_module: Make, tensors: Tensors) -> None:
    module = make_module(gate_bias=0.0)
    for stage in (1, 2):
        inference, _, _ = run(at_stage(module, stage), tensors)
        assert torch.equal(inference["zc"], inference["z1"])
        assert not module.clustering_started
    inference, _, _ = run(at_stage(module, 3), tensors)
    torch.testing.assert_close(inference["zc"], inference["z1"] / 2)
    torch.testing.assert_close(inference["gate"], torch.full((40, 32), 0.5))
    without, _, _ = run(at_stage(make_module(gate_bias=None), 3), tensors)
    assert torch.equal(without["zc"], without["z1"])


@pytest.mark.parametrize("stage", [2, 3])
def test_one_space_without_two_stages(make_module: Make, tensors: Tensors, stage: int) -> None:
    module = at_stage(make_module(two_stage=False, gate_bias=0.0), stage)
    inference, _, _ = run(module, tensors)
    assert torch.equal(inference["zr"], inference["z2"])
    torch.testing.assert_close(inference["zc"], inference["mean"] * (0.5 if stage == 3 else 1))
    ungated = module.eval().ungated_space(tensors)
    torch.testing.assert_close(ungated, inference["mean"])
    two = make_module().eval()
    torch.testing.assert_close(two.ungated_space(tensors), run(two, tensors)[0]["z1"])


def test_gate_sees_centres_and_their_scale(make_module: Make, tensors: Tensors, reference: ModuleType) -> None:
    module = at_stage(make_module(), 3).eval()
    module.whitening.mul_(0.03**0.5)
    torch.nn.init.normal_(module.gate.linear.weight)
    inference, _, _ = run(module, tensors)
    weight, bias = array(module.gate.linear.weight), array(module.gate.linear.bias)
    expected = reference.gated_space(array(inference["z1"]), array(module.centers), weight, bias, 2, scale=0.03)
    np.testing.assert_allclose(array(inference["zc"]), expected, rtol=1e-3, atol=1e-5)
    d = reference.squared_distances(expected, array(module.centers))
    np.testing.assert_allclose(array(module.assign(inference["zc"])), reference.soft_assignment(0.03 * d), rtol=1e-3)


def test_kl_is_the_divergence_and_eq_28_its_negative(
    make_module: Make, tensors: Tensors, reference: ModuleType
) -> None:
    inference, _, output = run(make_module(), tensors)
    mean, sd = inference["mean"], (inference["log_variance"] / 2).exp()
    divergence = kl_divergence(Normal(mean, sd), Normal(0, 1)).sum(dim=1)
    torch.testing.assert_close(output.kl_local["kl"], divergence)
    assert (divergence > 0).all()
    np.testing.assert_allclose(reference.kl_as_printed(array(mean), array(sd)), -array(divergence), rtol=1e-4)


def test_means_carry_size_factors(make_module: Make, tensors: Tensors, reference: ModuleType, weights: Weights) -> None:
    module = make_module()
    inference, generative, _ = run(module, tensors)
    for i, median in enumerate((20.0, 50.0)):
        size = array(tensors[counts_key(i)]).sum(axis=1) / median
        assert size.std() > 0.05
        decoder = module.decoders[i]
        heads = [weights(head)[0] for head in decoder.heads]
        expected = reference.decoder(array(inference["zr"]), size, weights(decoder.trunk), heads)
        log_mean, log_dispersion, logits = module.zinb_parameters(**generative)[i]
        for value, of_paper in zip((log_mean.exp(), log_dispersion.exp(), logits.sigmoid()), expected, strict=True):
            np.testing.assert_allclose(array(value), of_paper, rtol=1e-4)


def test_dispersion_of_a_feature_is_one_for_all_cells(make_module: Make, tensors: Tensors) -> None:
    module = make_module(dispersion="gene")
    for i, decoder in enumerate(module.decoders):
        torch.nn.init.uniform_(decoder.heads[1].bias, -3, 3)
        assert sum(p.numel() for p in decoder.heads[1].parameters()) == module.n_inputs[i]
    _, generative, output = run(module, tensors)
    zinb = module.zinb_parameters(**generative)
    for i, (log_mean, log_dispersion, logits) in enumerate(zinb):
        torch.testing.assert_close(log_dispersion, module.decoders[i].heads[1].bias.expand(40, -1))
        assert log_mean.std(dim=0).min() > 0
        expected = -zinb_log_likelihood(tensors[counts_key(i)], log_mean, log_dispersion, logits)
        torch.testing.assert_close(output.reconstruction_loss[f"modality_{i}"], expected)
        (gradient,) = torch.autograd.grad(expected.mean(), log_dispersion)
        output.loss.backward(retain_graph=True)
        torch.testing.assert_close(module.decoders[i].heads[1].bias.grad, gradient.sum(dim=0))
        module.zero_grad()


def test_cell_without_counts_has_a_finite_loss(make_module: Make, tensors: Tensors) -> None:
    empty = tensors | {counts_key(0): torch.zeros(40, 12)}
    module = make_module()
    _, _, output = run(module, empty)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("relative", [True, False])
def test_total_loss_is_eq_33(
    make_module: Make, tensors: Tensors, reference: ModuleType, *, stage: int, reduction: str, relative: bool
) -> None:
    module = at_stage(make_module(reduction=reduction, relative_distance=relative), stage)
    module.whitening.mul_(0.05**0.5)
    kl_weight, cluster_weight = STAGES[stage]
    inference, generative, output = run(module, tensors, kl_weight=kl_weight, cluster_weight=cluster_weight)

    likelihoods = []
    for i, zinb in enumerate(module.zinb_parameters(**generative)):
        log_mean, log_dispersion, logits = (array(p) for p in zinb)
        dropout = 1 / (1 + np.exp(-logits))
        log = reference.zinb_log(array(tensors[counts_key(i)]), dropout, np.exp(log_mean), np.exp(log_dispersion))
        likelihoods.append(-(log.sum(axis=1) if reduction == "sum" else log.mean(axis=1)))
    kl = -reference.kl_as_printed(array(inference["mean"]), np.exp(array(inference["log_variance"]) / 2))
    zc = array(inference["zc"])
    d = reference.squared_distances(zc, array(module.centers))
    cluster = reference.clustering_loss(d, reference.soft_assignment(0.05 * d))
    if relative:
        cluster *= 32 / zc.var(axis=0).sum()
    total = reference.total_loss(*(part.mean() for part in (*likelihoods, kl)), cluster, kl_weight, cluster_weight)

    assert output.loss.item() == pytest.approx(total, rel=1e-4)
    for obtained, expected in zip(output.reconstruction_loss.values(), likelihoods, strict=True):
        np.testing.assert_allclose(array(obtained), expected, rtol=1e-4)
    assert output.extra_metrics["cluster_loss"].item() == pytest.approx(cluster if stage == 3 else 0, rel=1e-4)
    assert output.n_obs_minibatch == 40


def test_clustering_loss_reaches_encoder_and_gate_only(make_module: Make, tensors: Tensors) -> None:
    module = at_stage(make_module(relative_distance=True), 3)
    inference, _, _ = run(module, tensors)
    module._clustering_loss(inference["zc"]).backward()
    reached = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    expected = {name for name, _ in module.named_parameters() if name.startswith(("encoder.", "gate."))}
    assert reached == expected
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in module.named_parameters() if name in expected)


def test_clustering_loss_moves_cells_towards_centres(make_module: Make) -> None:
    module = make_module()
    zc = (0.3 * torch.randn(25, 32)).requires_grad_()
    module._clustering_loss(zc).backward()
    q = soft_assignment(squared_distances(zc, module.centers)).detach()
    expected = 2 * (zc - q @ module.centers) / 25  # Q is held fixed, as in k-means
    torch.testing.assert_close(zc.grad, expected.detach())


def test_relative_clustering_loss_of_one_cluster_is_constant(make_module: Make) -> None:
    module = make_module(n_clusters=1, relative_distance=True)
    zc = torch.randn(60, 32)
    module.centers.copy_(zc.mean(dim=0, keepdim=True))
    zc.requires_grad_()
    loss = module._clustering_loss(zc)
    loss.backward()
    assert loss.item() == pytest.approx(32, rel=1e-5)
    assert zc.grad.abs().max() < 1e-5  # neither shrinking nor spreading pays


def test_small_minibatch_takes_the_spread_of_all_cells(make_module: Make) -> None:
    module = make_module(relative_distance=True)
    zc = torch.randn(60, 32)
    q = soft_assignment(0.05 * squared_distances(zc, module.centers))
    module.set_centers(zc, q)
    few = zc[:2]
    d = squared_distances(few, module.centers)
    within = (d * module.assign(few)).sum(dim=1).mean()
    expected = 32 * within / zc.numpy().var(axis=0).sum()
    torch.testing.assert_close(module._clustering_loss(few), expected, rtol=1e-4, atol=1e-6)


def test_reconstruction_does_not_reach_the_gate(make_module: Make, tensors: Tensors) -> None:
    module = at_stage(make_module(), 3)
    run(module, tensors, kl_weight=1.0)[2].loss.backward()
    assert all(parameter.grad is None for parameter in module.gate.parameters())
    assert all(parameter.grad is not None for parameter in module.decoders.parameters())


def test_minibatch_of_one_cell_does_not_explode(make_module: Make, tensors: Tensors) -> None:
    module = at_stage(make_module(relative_distance=True), 3)
    alone = {key: value[:1] for key, value in tensors.items()}
    assert run(module, alone, cluster_weight=1.0)[2].extra_metrics["cluster_loss"] < 1e5


def test_inputs_are_told_from_counts(make_module: Make, tensors: Tensors) -> None:
    module = make_module().eval()
    inference, _, _ = run(module, tensors)
    with torch.no_grad():
        z1 = module.encoder([tensors[key] for key in module.input_keys])
    assert torch.equal(inference["z1"], z1)
    other = tensors | {counts_key(0): tensors[counts_key(0)] + 1}
    assert torch.equal(run(module, other)[0]["zr"], inference["zr"])


@pytest.mark.parametrize("n_modalities", [1, 3])
def test_any_number_of_modalities(
    make_module: Make, reference: ModuleType, weights: Weights, n_modalities: int
) -> None:
    n_inputs = [12, 5, 7][:n_modalities]
    module = make_module(
        n_inputs=n_inputs,
        widths=[WIDE, PANEL, WIDE][:n_modalities],
        noise_scale=(0.0,) * n_modalities,
        median_totals=(20.0, 50.0, 5.0)[:n_modalities],
        relative_distance=True,
    )
    module = at_stage(module, 3)
    tensors = {"batch": torch.zeros(40, 1)}
    for i, n in enumerate(n_inputs):
        tensors |= {counts_key(i): torch.poisson(torch.full((40, n), 3.0)), input_key(i): torch.randn(40, n)}
    inference, generative, output = run(module, tensors, kl_weight=0.01, cluster_weight=1.0)
    inputs = [array(tensors[key]) for key in module.input_keys]
    z1 = reference.fused_space(inputs, [weights(own) for own in module.encoder.own], weights(module.encoder.shared))
    np.testing.assert_allclose(array(inference["z1"]), z1, rtol=1e-4, atol=1e-5)
    for name in ("z1", "z2", "mean", "log_variance", "zr", "zc", "gate"):
        assert inference[name].shape == (40, 16 * n_modalities)
    assert generative["log_size"].shape == (40, n_modalities)
    assert list(output.reconstruction_loss) == [f"modality_{i}" for i in range(n_modalities)]
    parts = [nll.mean() for nll in output.reconstruction_loss.values()]
    expected = sum(parts) + 0.01 * output.kl_local["kl"].mean() + output.extra_metrics["cluster_loss"]
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_what_a_cell_lacks_does_not_count(make_module: Make, tensors: Tensors) -> None:
    present = torch.ones(40, 2, dtype=torch.bool)
    present[:10, 0] = False
    present[10:15, 1] = False
    counts = [tensors[counts_key(i)].where(present[:, i : i + 1], torch.zeros(())) for i in (0, 1)]
    mosaic = tensors | {PRESENT: present.float(), counts_key(0): counts[0], counts_key(1): counts[1]}
    module = make_module()
    _, generative, output = run(module.eval(), mosaic)
    _, whole_generative, whole = run(module, tensors)
    for i, nll in enumerate(output.reconstruction_loss.values()):
        expected = whole.reconstruction_loss[f"modality_{i}"]
        torch.testing.assert_close(nll, expected.where(present[:, i], torch.zeros(())))
        size = generative["log_size"][:, i]
        assert not size[~present[:, i]].any()
        torch.testing.assert_close(size[present[:, i]], whole_generative["log_size"][present[:, i], i])
    torch.testing.assert_close(output.loss, sum(output.reconstruction_loss.values()).mean())
    # neither does it reach the gradient
    only_protein = {key: value[:10] for key, value in mosaic.items()}
    run(module, only_protein)[2].loss.backward()
    assert not any(parameter.grad.any() for parameter in module.decoders[0].parameters())
    assert all(parameter.grad.any() for parameter in module.decoders[1].parameters())


def test_complete_cells_are_as_without_a_mask(make_module: Make, tensors: Tensors) -> None:
    module = make_module(noise_scale=(0.5, 0.5))
    results = []
    for minibatch in (tensors, tensors | {PRESENT: torch.ones(40, 2)}):
        torch.manual_seed(3)
        module.encoder.noise = tuple(InputNoise() for _ in range(2))
        inference, _, output = run(module, minibatch, kl_weight=0.1)
        results.append((inference["z2"], output.loss))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_without_dropout_nothing_is_made_or_drawn(make_module: Make, tensors: Tensors) -> None:
    states = []
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        module = make_module(modality_dropout=dropout)
        before = torch.get_rng_state()
        module._fused_space(**module._get_inference_input(tensors))
        states.append((module.state_dict(), torch.equal(torch.get_rng_state(), before)))
    (without, untouched), (with_predictor, also_untouched) = states
    assert untouched
    assert not also_untouched
    assert {name.split(".")[0] for name in with_predictor.keys() - without.keys()} == {"predictor"}
    for name, value in without.items():
        assert name == "centers" or torch.equal(value, with_predictor[name])
    assert make_module(n_inputs=[12], widths=[WIDE], noise_scale=[0.0], modality_dropout=0.5).predictor is None


def test_missing_codes_are_foretold_from_those_that_are_there(make_module: Make, tensors: Tensors) -> None:
    module = make_module(modality_dropout=0.5).eval()
    inputs = [tensors[key] for key in module.input_keys]
    z1 = module.encoder(inputs)
    assert torch.equal(module.inference(inputs)["z1"], z1)  # after training nothing is dropped
    present = torch.ones(40, 2, dtype=torch.bool)
    present[:7, 1] = False
    fused = module.inference(inputs, present)["z1"]
    assert torch.equal(fused[:, :16], z1[:, :16])
    assert torch.equal(fused[7:], z1[7:])
    torch.testing.assert_close(fused[:7, 16:], module.predictor.linear[1](z1[:7, :16]))
    torch.testing.assert_close(module.ungated_space(tensors | {PRESENT: present.float()}), fused)


def test_reconstruction_teaches_the_predictor(make_module: Make, tensors: Tensors) -> None:
    module = make_module(modality_dropout=0.9)
    run(module, tensors)[2].loss.backward()
    assert all(parameter.grad.any() for parameter in module.predictor.parameters())


def test_two_modalities_keep_their_numbers(make_module: Make) -> None:
    """Weights and noise are drawn in the order in which earlier versions drew them, so that a seed keeps its results."""
    torch.manual_seed(0)
    module = make_module(n_batch=2, noise_scale=(0.5, 0.5), dispersion="gene", relative_distance=True)
    counts = [torch.poisson(torch.full((40, n), rate)) for n, rate in ((12, 1.5), (5, 9.0))]
    inputs = [torch.randn(40, n) for n in (12, 5)]
    tensors = {"batch": torch.arange(40).remainder(2).unsqueeze(1)}
    for i in (0, 1):
        tensors |= {counts_key(i): counts[i], input_key(i): inputs[i]}
    inference, _, output = run(at_stage(module, 3), tensors, kl_weight=0.01, cluster_weight=10.0)
    output.loss.backward()
    gradient = sum(parameter.grad.abs().sum().item() for parameter in module.parameters())
    found = [output.loss.item(), inference["z2"].abs().sum().item(), inference["zc"].abs().sum().item(), gradient]
    assert found == pytest.approx([1483.59277, 1025.62549, 470.24945, 559468.01], rel=1e-5)


def test_prior_samples_are_not_offered(make_module: Make) -> None:
    with pytest.raises(NotImplementedError):
        make_module().sample()


@pytest.mark.parametrize("stage", [1, 3])
def test_only_products_take_half_precision(make_module: Make, tensors: Tensors, stage: int) -> None:
    module = at_stage(make_module(relative_distance=True), stage).eval()
    weights = {"kl_weight": 0.01, "cluster_weight": 10.0 if stage == 3 else 0.0}
    inference, generative, exact = run(module, tensors, **weights)
    zc = inference["zc"].detach()
    with torch.autocast("cpu", torch.bfloat16):
        rounded_inference, _, rounded = run(module, tensors, **weights)
        likelihood = module.decoders[0].log_likelihood(
            tensors[counts_key(0)], generative["hidden"][0].bfloat16(), generative["log_size"][:, :1]
        )
        assigned = module.assign(zc)
    assert likelihood.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in rounded_inference.values())
    assert rounded.loss.item() == pytest.approx(exact.loss.item(), rel=0.02)
    assert rounded.loss.item() != exact.loss.item()
    assert torch.equal(assigned, module.assign(zc))
