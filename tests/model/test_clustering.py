from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score

from scmag_muon.model import _clustering
from scmag_muon.model._clustering import (
    SelectiveGate,
    _consensus,
    _distinct_rows,
    centroid_joins,
    centroid_linkage,
    clustering_loss,
    group_sums,
    join_before_and_after,
    join_communities,
    join_each,
    join_overlapping,
    soft_assignment,
    squared_distances,
    total_variance,
)
from scmag_muon.model._health import TrainingDivergedError, check_space

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


@pytest.mark.parametrize("away", [0.0, 1e3])
def test_distances_in_single_precision(reference: ModuleType, away: float, monkeypatch: pytest.MonkeyPatch) -> None:
    z, centers = (away + torch.randn(n, 48) for n in (1000, 7))
    whole = squared_distances(z, centers)
    expected = reference.squared_distances(z.double().numpy(), centers.double().numpy())
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    monkeypatch.setattr(_clustering, "_MOST_ELEMENTS", 7 * 48 * 30)
    sizes = []
    square = torch.Tensor.square
    monkeypatch.setattr(torch.Tensor, "square", lambda self: sizes.append(self.numel()) or square(self))
    torch.testing.assert_close(squared_distances(z, centers), whole, rtol=1e-6, atol=0)
    assert max(sizes) == 7 * 48 * 30
    assert squared_distances(z[:0], centers).shape == (0, 7)


def test_gradient_of_distances_in_blocks(
    space: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_clustering, "_MOST_ELEMENTS", 500)
    z, centers = (value.clone().requires_grad_() for value in space)
    weight = torch.randn(25, 3, dtype=DOUBLE)
    of_z, of_centers = torch.autograd.grad((squared_distances(z, centers) * weight).sum(), (z, centers))
    differences = 2 * weight.unsqueeze(-1) * (z.unsqueeze(1) - centers)
    torch.testing.assert_close(of_z, differences.sum(dim=1))
    torch.testing.assert_close(of_centers, -differences.sum(dim=0))


@pytest.mark.parametrize("most", [2**22, 50, 1])
def test_sums_of_groups(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clustering, "_MOST_ELEMENTS", most)
    z, groups = torch.randn(200, 4, dtype=DOUBLE), torch.arange(200).remainder(9)
    sizes, sums = group_sums(z, groups, 11)
    assert sizes.tolist() == [23, 23] + [22] * 7 + [0, 0]
    for group in range(11):
        torch.testing.assert_close(sums[group], z[groups == group].sum(dim=0))


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
    zc, values = gate(z1, lambda z: soft_assignment(scale * squared_distances(z, centers)))
    np.testing.assert_allclose(zc.detach(), expected, rtol=1e-9)
    torch.testing.assert_close(zc, values * z1)
    assert ((values > 0) & (values < 1)).all()


@pytest.mark.parametrize("bias", [3.0, 0.0])
def test_gate_starts_open(space: tuple[torch.Tensor, torch.Tensor], bias: float) -> None:
    z1, centers = space
    zc, values = SelectiveGate(32, 3, bias=bias).double()(z1, lambda z: soft_assignment(squared_distances(z, centers)))
    torch.testing.assert_close(zc, z1 / (1 + np.exp(-bias)))
    torch.testing.assert_close(values, torch.full_like(z1, 1 / (1 + np.exp(-bias))))


def test_gate_holds_the_assignment_fixed(space: tuple[torch.Tensor, torch.Tensor]) -> None:
    z1, centers = space[0].requires_grad_(), space[1].requires_grad_()
    gate = SelectiveGate(32, 3, bias=0.0, n_iterations=1).double()
    torch.nn.init.normal_(gate.linear.weight)
    zc, values = gate(z1, lambda z: soft_assignment(0.3 * squared_distances(z, centers)))
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


def test_relative_distances_are_those_of_discriminant_analysis(
    make_module: Callable[..., SCMAGModule], space: tuple[torch.Tensor, torch.Tensor]
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, p=[0.7, 0.2, 0.1], size=2000)
    z = (rng.normal(size=(3, 32)) * 0.5)[labels] + rng.normal(size=(2000, 32)) @ rng.normal(size=(32, 32))
    hard = torch.nn.functional.one_hot(torch.as_tensor(labels), 3).double()
    relative, printed = (in_space(make_module(relative_distance=on), *space) for on in (True, False))
    for module in (relative, printed):
        module.set_centers(torch.as_tensor(z), hard)
    within = z - np.stack([z[labels == k].mean(axis=0) for k in range(3)])[labels]
    covariance = within.T @ within / len(z)
    covariance = 0.9 * covariance + 0.1 * np.diag(covariance).mean() * np.eye(32)
    whitened = relative.whitening.numpy()
    np.testing.assert_allclose(whitened @ whitened.T, np.linalg.inv(covariance), rtol=1e-6, atol=1e-9)
    # scikit-learn shrinks the same covariance in the same way, and has the same prior
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(z, labels)
    assigned = relative.assign(torch.as_tensor(z)).argmax(dim=1)
    assert (assigned.numpy() == peer.predict(z)).mean() > 0.99
    assert (assigned.numpy() != printed.assign(torch.as_tensor(z)).argmax(dim=1).numpy()).any()
    torch.testing.assert_close(printed.whitening, torch.eye(32).double())
    assert not printed.offset.any()


def test_small_cluster_loses_its_tail_to_a_large_one(make_module: Callable[..., SCMAGModule]) -> None:
    module = in_space(make_module(relative_distance=True, n_clusters=2), torch.zeros(1, 32), torch.zeros(2, 32))
    z = torch.randn(1010, 32).double()
    z[1000:, 0] += 6
    module.set_centers(z, torch.nn.functional.one_hot((torch.arange(1010) >= 1000).long(), 2).double())
    middle = module.centers.mean(dim=0, keepdim=True)
    assert module.assign(middle).argmax() == 0
    assert module.offset[1] - module.offset[0] == pytest.approx(2 * np.log(100))


def test_communities_are_joined_in_units_of_their_spread() -> None:
    # a long type in two communities, and a short one beside it, nearer to each of them than they are to each other
    rng = np.random.default_rng(0)
    z = rng.normal(size=(900, 32)) * 0.1
    z[:, 0] *= 100
    z[:300, 0] -= 12
    z[300:600, 0] += 12
    z[600:, 1] += 4
    z[600:, 0] *= 0.5
    communities = torch.as_tensor(np.repeat([0, 1, 2], 300))
    joined = join_communities(torch.as_tensor(z), communities, 2)
    assert joined[0] == joined[300] != joined[600]
    plain = fcluster(linkage(np.stack([z[i : i + 300].mean(axis=0) for i in (0, 300, 600)]), "centroid"), 2, "maxclust")
    assert plain[0] != plain[1]
    assert torch.equal(join_communities(torch.as_tensor(z), communities, 3), communities)
    assert not join_communities(torch.as_tensor(z), communities, 1).any()


def test_small_community_is_kept_before_a_large_one_is_cut() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1020, 32))
    communities = np.repeat([0, 1, 2, 3], [400, 400, 200, 20])
    z[communities == 1, 0] += 2
    z[communities == 2, 1] += 9
    z[communities == 3, 2] += 9
    joined = join_communities(torch.as_tensor(z), torch.as_tensor(communities), 3).numpy()
    assert len(np.unique(joined)) == 3
    assert joined[0] == joined[400]


@pytest.mark.parametrize("n_clusters", [1, 2, 5, 12])
def test_groups_are_joined_as_by_the_centroid_linkage_of_all_their_points(n_clusters: int) -> None:
    rng = np.random.default_rng(8)
    means, sizes = rng.normal(size=(12, 3)), rng.integers(1, 40, 12)
    points = np.repeat(means, sizes, axis=0)  # those of a group lie on each other, so that SciPy joins them first
    expected = fcluster(linkage(points, "centroid"), n_clusters, "maxclust")
    if n_clusters == 5:  # the sizes matter here
        assert adjusted_rand_score(fcluster(linkage(means, "centroid"), 5, "maxclust").repeat(sizes), expected) < 1
    joined = centroid_linkage(means, sizes, n_clusters)
    assert adjusted_rand_score(joined.repeat(sizes), expected) == 1
    assert sorted(set(joined)) == list(range(n_clusters))


@pytest.mark.parametrize("kind", ["normal", "ties", "same place"])
@pytest.mark.parametrize("chance", [0.0, 3.0])
@pytest.mark.parametrize("below", [np.inf, 1.5])
def test_linkage_is_the_plain_one_ties_included(reference: ModuleType, kind: str, chance: float, below: float) -> None:
    rng = np.random.default_rng(3)
    for n_groups in (2, 9, 60):
        means = rng.normal(size=(n_groups, 4)) if kind == "normal" else rng.integers(0, 3, (n_groups, 2)).astype(float)
        if kind == "same place":
            means[:] = 1.0
        sizes = rng.integers(1, 4, n_groups)
        given = means.copy(), sizes.copy()
        for n_clusters in (1, 2, 7):
            expected = reference.centroid_linkage(means, sizes, n_clusters, below, chance)
            found = centroid_linkage(means, sizes, n_clusters, below=below, chance=chance)
            np.testing.assert_array_equal(found, expected)
        for value, copy in zip((means, sizes), given, strict=True):
            np.testing.assert_array_equal(value, copy)


def test_of_groups_at_the_same_distance_the_first_is_joined(reference: ModuleType) -> None:
    rng = np.random.default_rng(1947)  # a mean moves to where it is as far as a later one was
    means, sizes = rng.integers(0, 4, (12, 2)).astype(float), rng.choice([1, 1, 2], 12)
    for n_clusters in (2, 3, 5):
        expected = reference.centroid_linkage(means, sizes, n_clusters)
        np.testing.assert_array_equal(centroid_linkage(means, sizes, n_clusters), expected)


@pytest.mark.parametrize(("times", "kept"), [(3.5, False), (4.5, True)])
def test_two_standard_errors_of_expression_keep_a_small_community_apart(times: float, kept: bool) -> None:
    """Two pairs lie equally far apart in ``z``. The large one differs by the square of two standard errors in expression."""
    sizes = np.array([200, 200, 200, 5])
    groups = np.repeat(np.arange(4), sizes)
    z = np.random.default_rng(0).normal(size=(len(groups), 2))
    for group, center in enumerate([[0.0, 0], [1, 0], [0, 40], [1, 40]]):
        z[groups == group] += center - z[groups == group].mean(axis=0)
    profile = np.array(
        [[0.0, 0], [np.sqrt(4 * (1 / 200 + 1 / 200)), 0], [0, 9], [np.sqrt(times * (1 / 200 + 1 / 5)), 9]]
    )
    found = join_communities(torch.as_tensor(z), torch.as_tensor(groups), 3, [profile]).numpy()
    assert (found[400] != found[-1]) == kept
    assert (found[0] == found[200]) == kept


@pytest.mark.parametrize("n_clusters", [1, 3, 7])
@pytest.mark.parametrize("chance", [5.0, 50.0])
def test_what_chance_gives_is_taken_off_the_distances(n_clusters: int, chance: float) -> None:
    rng = np.random.default_rng(8)
    means, sizes = rng.normal(size=(12, 3)), rng.integers(1, 40, 12)
    groups = [[i] for i in range(12)]
    while len(groups) > n_clusters:
        costs = {}
        for a, one in enumerate(groups):
            for b, other in enumerate(groups[:a]):
                centers = [np.average(means[group], axis=0, weights=sizes[group]) for group in (one, other)]
                by_chance = chance * (1 / sizes[one].sum() + 1 / sizes[other].sum())
                costs[a, b] = ((centers[0] - centers[1]) ** 2).sum() - by_chance
        a, b = min(costs, key=lambda pair: costs[pair])
        groups[b] += groups.pop(a)
    joined = centroid_linkage(means, sizes, n_clusters, chance=chance)
    assert sorted(sorted(np.flatnonzero(joined == k)) for k in set(joined)) == sorted(sorted(group) for group in groups)
    if chance > 20 and n_clusters > 1:  # it matters here
        assert adjusted_rand_score(joined, centroid_linkage(means, sizes, n_clusters)) < 1


def test_small_community_is_kept_if_its_expression_differs_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1020, 32))
    communities = np.repeat([0, 1, 2, 3], [400, 400, 200, 20])
    for community, size in ((1, 5), (2, 9), (3, 6)):
        z[communities == community, community] += size

    def joined(differences: list[float]) -> np.ndarray:
        profile = np.diag(np.array(differences)) / np.sqrt(2)
        return join_communities(torch.as_tensor(z), torch.as_tensor(communities), 3, [profile]).numpy()

    # the small one is further than the second in both, but in expression by no more than chance can do
    small, cut = joined([0.4, 0.4, 0.4, 0.45]), joined([0.4, 0.4, 0.4, 1.5])
    assert small[0] != small[400]
    assert small[-1] in small[:1000]
    assert cut[0] == cut[400]
    assert cut[-1] not in cut[:1000]
    alone = join_communities(torch.as_tensor(z), torch.as_tensor(communities), 3).numpy()
    np.testing.assert_array_equal(alone, cut)


@pytest.mark.parametrize("weight", [0.25, 1.0, 4.0])
def test_expression_counts_as_much_beside_z_as_it_is_told(weight: float) -> None:
    rng = np.random.default_rng(1)
    centers, profile = rng.normal(size=(8, 32)), 3 * rng.normal(size=(8, 8))
    groups = np.repeat(np.arange(8), 500)
    z = centers[groups] + 0.01 * rng.normal(size=(4000, 32))  # so little within that the means are the centres
    z = torch.as_tensor(z)
    means = np.stack([z[groups == i].mean(dim=0) for i in range(8)])
    within = np.linalg.inv(np.cov((z.numpy() - means[groups]).T, bias=True) * 0.9 + 1e-5 * np.eye(32))
    points = means @ np.linalg.cholesky(within)
    in_z, in_expression = pdist(points, "sqeuclidean"), pdist(profile, "sqeuclidean")
    found = join_communities(z, torch.as_tensor(groups), 7, [profile], weight).numpy()
    # all groups are of one size, so that what chance gives is the same for each pair
    total = squareform(in_z / np.median(in_z) + weight * in_expression / np.median(in_expression))
    one, other = np.unravel_index((total + np.diag(np.full(8, np.inf))).argmin(), total.shape)
    joined = [(i, j) for i in range(8) for j in range(i) if found[groups == i][0] == found[groups == j][0]]
    assert joined == [(max(one, other), min(one, other))]


def test_a_division_that_the_others_contradict_does_not_count() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(900, 32))
    groups = np.repeat([0, 1, 2], 300)
    z[groups == 1, 0] += 12
    z[groups == 2, 1] += 12
    finer = 2 * groups + rng.integers(0, 2, 900)
    odd = np.where(groups == 0, rng.integers(0, 3, 900), 3)  # two of the groups in one community
    divisions = torch.as_tensor(np.column_stack([odd, groups, finer]))
    joined = join_communities(torch.as_tensor(z), divisions, 3).numpy()
    assert adjusted_rand_score(joined, groups) == 1
    alone = join_communities(torch.as_tensor(z), divisions[:, 0], 3).numpy()
    assert adjusted_rand_score(alone, groups) < 0.9
    np.testing.assert_array_equal(join_communities(torch.as_tensor(z), divisions[:, :1], 3), alone)


def _clusterings(groups: np.ndarray, wrong: float, rng: np.random.Generator) -> np.ndarray:
    """Six clusterings of four groups, each with other names and another share of the cells anywhere."""
    columns = []
    for _ in range(6):
        column = np.where(rng.random(len(groups)) < wrong, rng.integers(0, 4, len(groups)), groups)
        columns.append(rng.permutation(4)[column])
    return np.column_stack(columns)


def test_consensus_is_right_where_none_is() -> None:
    rng = np.random.default_rng(0)
    groups = rng.choice(4, p=[0.5, 0.3, 0.15, 0.05], size=400)
    clusterings = _clusterings(groups, 0.1, rng)
    found = _consensus(clusterings.T, 4)
    assert adjusted_rand_score(found, groups) > 0.98
    assert max(adjusted_rand_score(column, groups) for column in clusterings.T) < 0.9


@pytest.mark.parametrize(
    ("sizes", "of_three", "of_two"),
    [((10, 10, 10, 10), ["AB", "C", "D"], ["AB", "CD"]), ((30, 2, 10, 10), ["AB", "C", "D"], ["ABC", "D"])],
)
def test_consensus_joins_by_how_many_clusterings_hold_cells_apart(
    sizes: tuple[int, ...], of_three: list[str], of_two: list[str]
) -> None:
    # A and B are apart in 3 of 8, C and D in 4, A and C in 4, B and C in 6. Of the means of AB and C, that is (4 + 6) / 2 - 3 / 4
    # with groups of one size, more than 4; and less than 4 where most of AB is A.
    found = ["ABC D", "ABC D", "AB CD", "AB CD", "AB CD", "ACD B", "AC B D", "A B C D"]
    names = np.repeat(list("ABCD"), sizes)
    clusterings = np.array([[next(i for i, part in enumerate(f.split()) if n in part) for f in found] for n in names])
    for expected in (of_three, of_two):
        joined = _consensus(clusterings.T, len(expected))
        parts = {"".join(np.unique(names[joined == cluster])) for cluster in np.unique(joined)}
        assert parts == set(expected)


def test_rows_that_occur_are_numpys_and_take_less_memory() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 12, (40, 48), dtype=np.int16)
    table = kinds[rng.integers(0, 40, 20_000)]
    peaks = []
    for find in (lambda table: _distinct_rows(table.T), lambda table: np.unique(table, axis=0, return_inverse=True)):
        tracemalloc.start()
        try:
            rows, index = find(table)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        np.testing.assert_array_equal(rows[index.ravel()], table)
        np.testing.assert_array_equal(rows, np.unique(table, axis=0))
    assert peaks[0] < table.nbytes < peaks[1]


def most_held(work: Callable[[], object]) -> int:
    """Bytes of tensors that were made meanwhile and held at once."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    return int(np.cumsum([event.nbytes() for event in events if event.name() == "[memory]"]).max())


def test_each_division_is_joined_without_a_copy_of_all() -> None:
    rng = np.random.default_rng(0)
    divisions = torch.from_numpy(rng.integers(0, 9, (20_000, 24), dtype=np.int32))
    z = torch.from_numpy(rng.normal(size=(20_000, 2)))
    assert 0 < most_held(lambda: join_each(z, divisions, 3, None, 1)) < 8 * divisions.numel()  # of all as int64


def test_a_space_is_checked_without_a_copy() -> None:
    z = torch.zeros(2**18, 8)
    assert 0 < most_held(lambda: check_space(z, stage=3, epoch=1, lr=1e-3)) < z.nbytes / 2
    z[2**17 + 5, 3] = torch.nan
    with pytest.raises(TrainingDivergedError, match="the latent space of 1 of 262144 cells is not finite in stage 3"):
        check_space(z, stage=3, epoch=1, lr=1e-3)


def test_a_consensus_that_agrees_less_than_the_most_typical_outcome_is_not_taken() -> None:
    # half of the clusterings of 30 small groups lie half a group aside: joined by means, groups run into one another
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 6)
    columns = [
        np.where(rng.random(180) < 0.05, rng.integers(0, 30, 180), each)
        for each in [groups] * 4 + [np.roll(groups, 3)] * 4
    ]
    assert adjusted_rand_score(_consensus(columns, 30), groups) > 0.9


@pytest.mark.parametrize(("distance", "n_left"), [(1.6, 2), (2.6, 3)])
def test_communities_of_one_mode_are_joined(distance: float, n_left: int) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 32)) @ np.diag(np.linspace(0.7, 1.4, 32))
    communities = np.repeat([0, 1, 2], 1000)
    z[communities == 1, 31] += distance * 1.4  # deviations
    z[communities == 2, 30] += 6
    joined = join_overlapping(torch.as_tensor(z), torch.as_tensor(communities)).numpy()
    assert len(np.unique(joined)) == n_left
    assert joined[0] != joined[-1]
    assert (joined[0] == joined[1000]) == (n_left == 2)


def test_cluster_without_cells_gets_none(make_module: Callable[..., SCMAGModule]) -> None:
    rng = np.random.default_rng(0)
    z = torch.as_tensor(rng.normal(size=(2000, 32)))
    centers = torch.stack([z.mean(dim=0), z.mean(dim=0) + 0.1, 30 * torch.ones(32, dtype=z.dtype)])
    module = in_space(make_module(relative_distance=True), z, centers)
    module.set_centers(z, torch.nn.functional.one_hot(torch.arange(2000).remainder(2), 3).double())
    q = module.assign(30 * torch.ones(1, 32, dtype=z.dtype))
    assert q[0, 2] == 0
    assert q.sum() == pytest.approx(1)


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
    assert module.whitening.isfinite().all()
    assert module.assign(z).argmax(dim=1).max() < 2


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


def _before_and_after(*, fitted_is_right: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Three groups of points; two divisions after fitting, of the groups or at random, and two of the groups before it."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 80)
    z = np.eye(3)[group] * 6 + rng.normal(size=(240, 3))
    right = [group * 2 + rng.integers(0, 2, 240) for _ in range(4)]
    after = right[:2] if fitted_is_right else [rng.integers(0, 6, 240) for _ in range(2)]
    return torch.as_tensor(z, dtype=torch.float32), torch.as_tensor(np.column_stack([*after, *right[2:]]))


def test_divisions_that_agree_before_and_after_fitting_are_joined_together() -> None:
    z, divisions = _before_and_after(fitted_is_right=True)
    found = join_before_and_after(z, divisions, 3, n_unfitted=2)
    assert found.fit_agreement == 1
    assert torch.equal(found.labels, join_communities(z, divisions, 3))


def test_fitting_that_changes_what_the_clusters_are_is_left_out() -> None:
    z, divisions = _before_and_after(fitted_is_right=False)
    found = join_before_and_after(z, divisions, 3, n_unfitted=2)
    assert found.fit_agreement < 0.3
    assert torch.equal(found.labels, join_communities(z, divisions[:, 2:], 3))
    assert adjusted_rand_score(found.labels, np.repeat(np.arange(3), 80)) == 1
    for n_unfitted in (0, 4):  # nothing to compare with
        found = join_before_and_after(z, divisions, 3, n_unfitted=n_unfitted)
        assert found.fit_agreement == 1
        assert torch.equal(found.labels, join_communities(z, divisions, 3))


@pytest.mark.parametrize(("n_moved", "plain_is_taken"), [(0, True), (2, True), (40, False)])
def test_clusters_without_the_network_are_taken_where_the_network_finds_the_same(
    n_moved: int, *, plain_is_taken: bool
) -> None:
    z, divisions = _before_and_after(fitted_is_right=True)
    plain = join_each(z, divisions, 3, None, 1)
    plain[:n_moved, 2:] = (plain[:n_moved, 2:] + 1) % 3  # the unfitted ones
    found = join_before_and_after(z, divisions, 3, n_unfitted=2, plain=plain)
    without = plain[:, 2]
    together = _consensus(np.hstack([join_each(z, divisions, 3, None, 1), plain]).T, 3)
    assert found.network_agreement == pytest.approx(adjusted_rand_score(together, without))
    assert (found.network_agreement >= 0.9) == plain_is_taken == found.are_plain
    assert adjusted_rand_score(found.labels, without if plain_is_taken else together) == 1
    assert found.fit_agreement == 1


def test_outcomes_with_and_without_the_network_are_in_one_consensus() -> None:
    """Two groups lie on top of each other in Z1, and apart without it."""
    group = np.repeat(np.arange(4), 60)
    rng = np.random.default_rng(0)
    z = torch.as_tensor(np.eye(4)[[0, 0, 1, 2]][group] * 6 + rng.normal(size=(240, 4)), dtype=torch.float32)
    divisions = torch.as_tensor(np.column_stack([group * 2 + rng.integers(0, 2, 240) for _ in range(2)]))
    plain = np.column_stack([group, group]).astype(np.int16)
    found = join_before_and_after(z, divisions, 4, n_unfitted=1, plain=plain)
    table = np.hstack([join_each(z, divisions, 4, None, 1), plain])
    agreement = adjusted_rand_score(_consensus(table.T, 4), group)
    assert found.network_agreement == pytest.approx(agreement)
    assert adjusted_rand_score(found.labels, group if agreement >= 0.9 else _consensus(table.T, 4)) == 1


def test_outcomes_of_fitted_divisions_are_left_out_with_them() -> None:
    z, divisions = _before_and_after(fitted_is_right=False)
    divisions = torch.cat([divisions[:, :2]] * 4 + [divisions[:, 2:]], dim=1)
    plain = join_each(z, divisions, 3, None, 1)
    plain[:, :8] = np.random.default_rng(1).integers(0, 3, (240, 1))
    plain[:40, 8:] = (plain[:40, 8:] + 1) % 3  # too far from Z1's to be taken
    found = join_before_and_after(z, divisions, 3, n_unfitted=2, plain=plain)
    of_unfitted = np.hstack([join_each(z, divisions, 3, None, 1)[:, 8:], plain[:, 8:]])
    assert found.fit_agreement < 0.3
    assert found.network_agreement < 0.9
    np.testing.assert_array_equal(found.labels, _consensus(of_unfitted.T, 3))
    assert adjusted_rand_score(found.labels, _consensus(np.hstack([of_unfitted, plain[:, :8]]).T, 3)) < 0.9


def test_groups_apart_are_never_joined() -> None:
    means, within = np.array([[0.0], [1], [1.1], [9], [3]]), np.array([0, 0, 1, 0, 1])
    joins = centroid_joins(means, np.ones(5), 1, within=within)
    assert [frozenset(pair) for pair in joins] == [frozenset({0, 1}), frozenset({2, 4}), frozenset({0, 3})]
