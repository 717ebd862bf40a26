from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from scmag_muon.model._clustering import (
    SelectiveGate,
    clustering_loss,
    soft_assignment,
    squared_distances,
    total_variance,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from scmag_muon.model._module import SCMAGModule

DOUBLE = torch.float64


@pytest.fixture
def space() -> tuple[torch.Tensor, torch.Tensor]:
    """Cells and centres, not too far apart, so that assignments are soft."""
    return 0.3 * torch.randn(25, 32, dtype=DOUBLE), 0.3 * torch.randn(3, 32, dtype=DOUBLE)


def test_distances_are_eq_29(reference: ModuleType, space: tuple[torch.Tensor, torch.Tensor]) -> None:
    z, centers = space
    d = squared_distances(z, centers)
    np.testing.assert_allclose(d, reference.squared_distances(z.numpy(), centers.numpy()), rtol=1e-12)
    np.testing.assert_allclose(squared_distances(centers, centers).diagonal(), 0)


def test_assignment_is_eq_30_31(reference: ModuleType, space: tuple[torch.Tensor, torch.Tensor]) -> None:
    d = squared_distances(*space)
    q = soft_assignment(d)
    np.testing.assert_allclose(q, reference.soft_assignment(d.numpy()), rtol=1e-9)
    np.testing.assert_allclose(q.sum(dim=1), 1)
    torch.testing.assert_close(q.argmax(dim=1), d.argmin(dim=1))


def test_assignment_ignores_a_constant_of_the_cell(space: tuple[torch.Tensor, torch.Tensor]) -> None:
    d = squared_distances(*space)
    torch.testing.assert_close(soft_assignment(d + torch.randn(25, 1, dtype=DOUBLE) * 50), soft_assignment(d))


def test_assignment_is_sharper_than_the_softmax(
    reference: ModuleType, space: tuple[torch.Tensor, torch.Tensor]
) -> None:
    d = squared_distances(*space)
    q, softmax = soft_assignment(d), reference.softmax_of_centred(d.numpy())
    assert (q.max(dim=1).values.numpy() > softmax.max(axis=1)).all()
    assert (q.min(dim=1).values.numpy() < softmax.min(axis=1)).all()
    torch.testing.assert_close(q, torch.softmax(-2 * d, dim=1))  # squaring halves the temperature


@pytest.mark.parametrize("size", [1e-30, 1e6])
def test_assignment_of_extreme_distances(size: float) -> None:
    q = soft_assignment(size * torch.tensor([[1.0, 2.0, 4.0], [5.0, 5.0, 5.0]]))
    torch.testing.assert_close(q.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(q[1], torch.full((3,), 1 / 3))


def test_loss_is_eq_32(reference: ModuleType, space: tuple[torch.Tensor, torch.Tensor]) -> None:
    d = squared_distances(*space)
    q = soft_assignment(d)
    assert clustering_loss(d, q).item() == pytest.approx(reference.clustering_loss(d.numpy(), q.numpy()))
    hard = torch.nn.functional.one_hot(d.argmin(dim=1), 3)
    assert clustering_loss(d, hard).item() == pytest.approx(d.min(dim=1).values.mean().item())  # k-means' own loss


def test_total_variance(space: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert total_variance(space[0] + 7).item() == pytest.approx(space[0].numpy().var(axis=0).sum())


@pytest.mark.parametrize("n_iterations", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_gate_is_eq_17(
    reference: ModuleType, space: tuple[torch.Tensor, torch.Tensor], n_iterations: int, scale: float
) -> None:
    z1, centers = space
    gate = SelectiveGate(32, 3, bias=0.5, n_iterations=n_iterations).double()
    torch.nn.init.normal_(gate.linear.weight)
    torch.nn.init.normal_(gate.linear.bias)
    weight, bias = (parameter.detach().numpy() for parameter in (gate.linear.weight, gate.linear.bias))
    expected = reference.gated_space(z1.numpy(), centers.numpy(), weight, bias, n_iterations, scale)
    zc, values = gate(z1, centers, torch.tensor(scale, dtype=DOUBLE))
    np.testing.assert_allclose(zc.detach(), expected, rtol=1e-9)
    torch.testing.assert_close(zc, values * z1)
    assert ((values > 0) & (values < 1)).all()


@pytest.mark.parametrize("bias", [3.0, 0.0])
def test_gate_starts_open(space: tuple[torch.Tensor, torch.Tensor], bias: float) -> None:
    z1, centers = space
    zc, values = SelectiveGate(32, 3, bias=bias).double()(z1, centers, torch.tensor(1.0))
    torch.testing.assert_close(zc, z1 / (1 + np.exp(-bias)))
    torch.testing.assert_close(values, torch.full_like(z1, 1 / (1 + np.exp(-bias))))


def test_gate_holds_the_assignment_fixed(space: tuple[torch.Tensor, torch.Tensor]) -> None:
    z1, centers = space[0].requires_grad_(), space[1].requires_grad_()
    gate = SelectiveGate(32, 3, bias=0.0, n_iterations=1).double()
    torch.nn.init.normal_(gate.linear.weight)
    zc, values = gate(z1, centers, torch.tensor(0.3))
    zc.sum().backward()
    assert centers.grad is None
    slope = (values * (1 - values) * z1).detach()
    expected = values + slope @ gate.linear.weight[:, :32]
    torch.testing.assert_close(z1.grad, expected.detach())


def test_gate_iterates_twice_by_default() -> None:
    assert SelectiveGate(32, 3, bias=0.0).n_iterations == 2


def in_space(module: SCMAGModule, z: torch.Tensor, centers: torch.Tensor) -> SCMAGModule:
    module = module.double()
    module.centers.copy_(centers)
    module.stage.fill_(3)
    return module


@pytest.mark.parametrize("shrink", [0.9, 0.5, 0.1])
def test_shrinking_pays_on_distances_as_printed(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor], shrink: float
) -> None:
    z, centers = space
    d, shrunken = squared_distances(z, centers), squared_distances(shrink * z, shrink * centers)
    q = soft_assignment(d)
    assert (clustering_loss(shrunken, q) / clustering_loss(d, q)).item() == pytest.approx(shrink**2)
    module = in_space(make_module(relative_distance=False), z, centers)
    before = module._clustering_loss(z)
    module.centers *= shrink
    assert module._clustering_loss(shrink * z) < before


@pytest.mark.parametrize("shrink", [0.9, 0.1, 5.0])
def test_shrinking_does_not_pay_on_relative_distances(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor], shrink: float
) -> None:
    z, centers = space
    module = in_space(make_module(relative_distance=True), z, centers)
    q = soft_assignment(squared_distances(z, centers))
    losses, assignments = [], []
    for scaled in (z, shrink * z):
        module.set_centers(scaled, q)
        losses.append(module._clustering_loss(scaled).item())
        assignments.append(module.assign(scaled))
    assert losses[1] == pytest.approx(losses[0])
    torch.testing.assert_close(*assignments)


def test_scale_of_distances_is_the_spread_around_centres(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor]
) -> None:
    z, _ = space
    labels = torch.arange(25).remainder(3)
    hard = torch.nn.functional.one_hot(labels, 3).double()
    relative, printed = (in_space(make_module(relative_distance=on), *space) for on in (True, False))
    for module in (relative, printed):
        module.set_centers(z, hard)
    within = sum(z[labels == k].numpy().var(axis=0).sum() * (labels == k).sum().item() for k in range(3)) / 25
    assert relative.distance_scale.item() == pytest.approx(32 / within)
    assert printed.distance_scale.item() == 1


def test_centres_are_weighted_means(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor]
) -> None:
    z, centers = space
    module = in_space(make_module(), z, centers)
    q = soft_assignment(squared_distances(z, centers)).numpy()
    module.set_centers(z, torch.from_numpy(q))
    expected = [np.average(z.numpy(), axis=0, weights=q[:, k]) for k in range(3)]
    np.testing.assert_allclose(module.centers, expected, rtol=1e-9)


def test_centre_without_cells_stays(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor]
) -> None:
    z, centers = space
    module = in_space(make_module(relative_distance=True), z, centers)
    module.set_centers(z, torch.nn.functional.one_hot(torch.arange(25).remainder(2), 3).double())
    torch.testing.assert_close(module.centers[2], centers[2])
    torch.testing.assert_close(module.centers[0], z[::2].mean(dim=0))
    assert module.distance_scale.isfinite()


@pytest.mark.parametrize("gate_bias", [0.5, None])
def test_new_numbers_for_clusters_change_nothing_else(
    make_module: Callable[..., Any], space: tuple[torch.Tensor, torch.Tensor], gate_bias: float | None
) -> None:
    z1, centers = space
    module = in_space(make_module(gate_bias=gate_bias), z1, centers)
    if module.gate is not None:
        torch.nn.init.normal_(module.gate.linear.weight)
    zc = module.cluster_space(z1)[0].detach()
    q = module.assign(zc)
    order = torch.tensor([2, 0, 1])
    module.reorder_clusters(order)
    again = module.cluster_space(z1)[0].detach()
    torch.testing.assert_close(again, zc)
    torch.testing.assert_close(module.assign(again), q[:, order])
    torch.testing.assert_close(module.centers, centers[order])
