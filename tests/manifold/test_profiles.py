from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import pdist, squareform

from scmag_muon.manifold import scratch, transforms
from scmag_muon.manifold.profiles import group_profiles


def counts_of(n_vars: int, seed: int) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    return sp.csr_array(rng.poisson(rng.gamma(0.4, 2, (1, n_vars)) * rng.gamma(3, 0.3, (120, 1))).astype(float))


@pytest.fixture
def views() -> list[transforms.View]:
    return [transforms.transform(counts_of(40, 0), "log"), transforms.transform(counts_of(9, 1), "clr")]


@pytest.fixture
def groups() -> np.ndarray:
    return np.random.default_rng(2).choice(4, p=[0.5, 0.3, 0.15, 0.05], size=120)


def plain_squared_distance(
    values: list[np.ndarray], weights: list[float], groups: np.ndarray, batches: np.ndarray, one: int, other: int
) -> float:
    total = 0.0
    for x, weight in zip(values, weights, strict=True):
        y = x.astype(float)
        for batch in np.unique(batches):
            y[batches == batch] -= y[batches == batch].mean(axis=0)
        centers = np.stack([y[groups == g].mean(axis=0) for g in range(groups.max() + 1)])
        deviation = np.sqrt(np.mean((y - centers[groups]) ** 2, axis=0))
        of_feature, difference = 0.0, 0.0
        for j, sd in enumerate(deviation):
            if sd > 1e-3:
                of_feature += np.sqrt(sd)
                difference += ((centers[one, j] - centers[other, j]) / sd**0.75) ** 2
        total += weight**2 / sum(w**2 for w in weights) * difference / of_feature
    return total


@pytest.mark.parametrize("batched", [False, True])
def test_distances_are_those_of_standardised_means(
    views: list[transforms.View], groups: np.ndarray, batched: bool
) -> None:
    batches = np.random.default_rng(3).integers(0, 3, 120) if batched else np.zeros(120, int)
    divisions = np.column_stack([groups[::-1], groups])
    _, profiles = group_profiles(views, [0.9, 0.4], divisions, batches if batched else None)
    found = squareform(pdist(profiles) ** 2)
    values = [view.toarray() for view in views]
    expected = [
        [plain_squared_distance(values, [0.9, 0.4], groups, batches, one, other) for other in range(4)]
        for one in range(4)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)


def test_chance_makes_groups_differ_by_the_inverse_of_their_sizes() -> None:
    rng = np.random.default_rng(0)
    views = [transforms.transform(sp.csr_array(rng.poisson(2.0, (3000, 60)).astype(float)), "log") for _ in range(2)]
    sizes = np.array([10, 20, 50, 100, 820, 2000])
    groups = np.repeat(np.arange(6), sizes)
    by_chance = np.add.outer(1 / sizes, 1 / sizes)[np.triu_indices(6, 1)]
    divisions = np.column_stack([rng.permutation(groups) for _ in range(40)])
    found = [pdist(profiles) ** 2 for profiles in group_profiles(views, [1.0, 0.3], divisions)]
    np.testing.assert_allclose(np.mean(found, axis=0), by_chance, rtol=0.1)


def test_a_shift_between_batches_is_no_difference(groups: np.ndarray) -> None:
    view = transforms.transform(counts_of(40, 0), "log")
    batches = np.random.default_rng(3).integers(0, 2, 120)
    shifted = view.toarray() + 5 * np.outer(batches, np.random.default_rng(4).normal(size=40))
    other = transforms.View(sp.csc_array(shifted), view.row_offset, view.column_offset)
    expected, found, left = (
        pdist(group_profiles([x], [1.0], groups[:, None], codes)[0])
        for x, codes in ((view, batches), (other, batches), (other, None))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert not np.allclose(left, expected, rtol=0.1)


def test_modality_without_weight_and_features_without_spread_do_not_count(
    views: list[transforms.View], groups: np.ndarray
) -> None:
    alone = pdist(group_profiles(views[:1], [0.7], groups[:, None])[0])
    np.testing.assert_allclose(pdist(group_profiles(views, [0.7, 0.0], groups[:, None])[0]), alone, rtol=1e-5)
    constant = np.column_stack([np.full(120, 3.0), np.zeros(120), counts_of(40, 0).toarray()])
    (found,) = group_profiles([transforms.transform(sp.csr_array(constant), "log")], [0.7], groups[:, None])
    np.testing.assert_allclose(pdist(found), alone, rtol=1e-5)
    ones = transforms.transform(sp.csr_array(np.ones((120, 3))), "log")
    assert not group_profiles([ones], [1.0], groups[:, None])[0].any()


def distances_alone(view: transforms.View, groups: np.ndarray) -> np.ndarray:
    return pdist(group_profiles([view], [1.0], groups[:, None])[0]) ** 2


def test_three_modalities_count_by_their_weights_whatever_their_units_are(groups: np.ndarray) -> None:
    rich = sp.csr_array(np.random.default_rng(5).poisson(200 * (1 + groups[:, None] * np.arange(1, 7))).astype(float))
    views = [transforms.transform(x, "log") for x in (counts_of(40, 0), rich, counts_of(30, 6))]
    weights = np.array([0.6, 0.5, 0.4])
    alone = [distances_alone(view, groups) for view in views]
    by_chance = np.median(2 / np.bincount(groups))
    units = [max(np.median(of), by_chance) for of in alone]
    assert units[1] > 100 * units[0]
    shares = weights**2 / units / (weights**2 / units).sum()
    found = pdist(group_profiles(views, list(weights), groups[:, None])[0]) ** 2
    np.testing.assert_allclose(found, sum(s * of for s, of in zip(shares, alone, strict=True)), rtol=1e-5)


def test_third_modality_in_which_nothing_differs_is_not_blown_up(
    views: list[transforms.View], groups: np.ndarray
) -> None:
    ones = transforms.transform(sp.csr_array(np.ones((120, 3))), "log")
    (found,) = group_profiles([*views, ones], [0.7, 0.5, 0.1], groups[:, None])
    (alone,) = group_profiles([*views, ones], [0.7, 0.5, 0.0], groups[:, None])
    np.testing.assert_allclose(pdist(found), pdist(alone), rtol=0.02)


def test_blocks_of_features_give_the_same_bits(
    views: list[transforms.View], groups: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = np.random.default_rng(3).integers(0, 3, 120)
    at_once = group_profiles(views, [1.0, 0.5], groups[:, None], batches)[0]
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", 100)
    assert len(list(transforms.column_blocks(views[0].values))) > 10
    np.testing.assert_array_equal(group_profiles(views, [1.0, 0.5], groups[:, None], batches)[0], at_once)


@pytest.mark.parametrize("entries", [100, 2**22])
def test_views_by_rows_give_the_same_distances(
    views: list[transforms.View], groups: np.ndarray, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = np.random.default_rng(3).integers(0, 3, 120)
    by_rows = [
        transforms.transform_rows(counts_of(40, 0), "log", np.ones(120, np.float32)),
        transforms.transform_rows(counts_of(9, 1), "clr", np.ones(120, np.float32)),
    ]
    monkeypatch.setattr(scratch, "ENTRIES_AT_A_TIME", entries)
    for weights in ([1.0, 0.5], [0.0, 1.0]):
        found, expected = (group_profiles(of, weights, groups[:, None], batches)[0] for of in (by_rows, views))
        np.testing.assert_allclose(pdist(found), pdist(expected), rtol=1e-5)
