from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scmag_muon.manifold import information
from scmag_muon.manifold.information import (
    concordance,
    concordance_error,
    half_neighborhoods,
    modality_weights,
    neighborhood_overlap,
    replication,
    split_counts,
)
from scmag_muon.manifold.neighbors import nearest_neighbors

KINDS = pytest.mark.parametrize("kind", ["log", "zscore", "clr"])
COUNTS = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1000))


def poisson(rates: np.ndarray | float, shape: tuple[int, int], seed: int = 0) -> sp.csr_array:
    return sp.csr_array(np.random.default_rng(seed).poisson(rates, shape).astype(np.float32))


def replicated(counts: sp.csr_array, kind: str, **options: object) -> float:
    return replication(half_neighborhoods(counts, kind, **options))


def clusters(depth: float, seed: int = 0) -> sp.csr_array:
    """Four groups of cells, each with its own rates over 60 features."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(size=(4, 60)))
    return poisson(depth * rates[np.arange(240) % 4], (240, 60), seed)


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(deadline=None, max_examples=40)
def test_halves_sum_to_the_counts(counts: np.ndarray, seed: int) -> None:
    halves = [half.toarray() for half in split_counts(sp.csr_array(counts.astype(np.float32)), random_state=seed)]
    np.testing.assert_array_equal(halves[0] + halves[1], counts)
    for half in halves:
        assert half.min() >= 0
        np.testing.assert_array_equal(half, np.rint(half))


def test_each_half_is_binomial() -> None:
    n = 20
    first, second = split_counts(sp.csr_array(np.full((200, 200), n, dtype=np.float32)))
    assert first.mean() == pytest.approx(n / 2, abs=0.05)
    assert second.mean() == pytest.approx(n / 2, abs=0.05)
    assert first.toarray().var() == pytest.approx(n / 4, rel=0.05)


def test_parts_may_be_unequal() -> None:
    first, second = split_counts(sp.csr_array(np.full((200, 200), 20, dtype=np.float32)), share=0.1)
    assert first.mean() == pytest.approx(2, abs=0.03)
    assert second.mean() == pytest.approx(18, abs=0.03)
    assert first.toarray().var() == pytest.approx(20 * 0.1 * 0.9, rel=0.05)


def test_halves_of_poisson_counts_are_independent() -> None:
    first, second = (half.toarray().ravel() for half in split_counts(poisson(6.0, (200, 200))))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert first.var() == pytest.approx(3, rel=0.05)


def test_split_repeats_with_the_seed_only_and_leaves_the_counts() -> None:
    counts = poisson(5.0, (20, 30))
    before = counts.copy()
    first, again, other = (split_counts(counts, random_state=seed)[0].toarray() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(counts.toarray(), before.toarray())


def random_tables(n: int, k: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [nearest_neighbors(rng.normal(size=(n, 5)), k + 1) for _ in range(2)]


def test_overlap_of_identical_neighborhoods_is_one() -> None:
    table, _ = random_tables(100, 10)
    assert neighborhood_overlap(table, table) == pytest.approx(1)
    shuffled = np.column_stack([table[:, 0], table[:, :0:-1]])
    assert neighborhood_overlap(table, shuffled) == pytest.approx(1)


def test_overlap_of_unrelated_neighborhoods_is_zero() -> None:
    for k in (5, 50, 150):
        assert neighborhood_overlap(*random_tables(300, k)) == pytest.approx(0, abs=0.03)


def test_overlap_by_hand() -> None:
    # of the two neighbours of each of five cells one is common, and two of four others would be drawn by chance
    first = np.array([[i, (i + 1) % 5, (i + 2) % 5] for i in range(5)])
    second = np.array([[i, (i + 1) % 5, (i + 3) % 5] for i in range(5)])
    assert neighborhood_overlap(first, second) == pytest.approx(0)
    # one neighbour each, none or all in common; by chance a quarter
    assert neighborhood_overlap(first[:, [0, 1]], first[:, [0, 2]]) == pytest.approx(-1 / 3)
    assert neighborhood_overlap(first[:, [0, 1]], second[:, [0, 1]]) == pytest.approx(1)
    half = np.array([[0, 1], [1, 2], [2, 4], [3, 0], [4, 1]])  # two of five
    assert neighborhood_overlap(first[:, [0, 1]], half) == pytest.approx((0.4 - 0.25) / 0.75)


def test_overlap_where_all_cells_are_neighbors_says_nothing() -> None:
    table = nearest_neighbors(np.random.default_rng(0).normal(size=(6, 2)), 6)
    assert neighborhood_overlap(table, table) == 0


@KINDS
def test_noise_does_not_replicate(kind: str) -> None:
    rates = np.exp(np.random.default_rng(1).normal(size=(1, 60)))
    assert 0 <= replicated(poisson(rates, (240, 60)), kind, scale=False) < 0.04


@KINDS
def test_clusters_replicate_and_more_so_the_deeper_the_counts(kind: str) -> None:
    found = [replicated(clusters(depth), kind, scale=True) for depth in (0.05, 0.5, 5)]
    assert found == sorted(found)
    assert found[0] < 0.2
    assert 0.4 < found[2] <= 1


def test_neighborhoods_of_clusters_replicate_up_to_the_clusters() -> None:
    # all cells of a cluster are alike: 30 of 59 others replicate by chance, so (30/59 - 30/239) / (1 - 30/239)
    assert replicated(clusters(50.0), "log", scale=True) == pytest.approx(0.437, abs=0.03)


def test_library_size_counts_for_less_where_it_is_scaled_away() -> None:
    library = np.random.default_rng(0).lognormal(0, 0.35, (240, 1))
    counts = poisson(100 * library, (240, 60))
    unscaled, scaled = (replicated(counts, "log", scale=scale) for scale in (False, True))
    assert unscaled > 0.4
    assert scaled < unscaled / 2


@pytest.mark.parametrize("kind", ["log", "clr"])
def test_cells_that_cannot_be_told_apart_do_not_replicate(kind: str) -> None:
    # most cells are empty, hence equal, in both halves: equal cells must not be matched by their index
    assert replicated(poisson(0.002, (400, 100)), kind, scale=kind == "log") < 0.1


def test_one_protein_has_no_log_ratio_to_replicate() -> None:
    assert replicated(poisson(5.0, (200, 1)), "clr", scale=False) < 0.05


def test_next_to_no_counts_do_not_replicate() -> None:
    counts = np.zeros((80, 100), dtype=np.float32)
    counts[0, 0] = 1  # one of the halves is empty
    assert replicated(sp.csr_array(counts), "log", scale=True) == 0


def test_replication_repeats_with_the_seed() -> None:
    counts = clusters(0.5)
    assert replicated(counts, "log", scale=True) == replicated(counts, "log", scale=True)
    assert replicated(counts, "log", scale=True) != replicated(counts, "log", scale=True, random_state=1)


def test_a_sample_stands_for_many_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among more cells neighbours are nearer and replicate less; a sample of fixed size does not know how many there are."""
    rates = np.exp(np.random.default_rng(0).normal(size=(4, 60)))
    counts = poisson(rates[np.arange(1200) % 4], (1200, 60))
    of_a_fifth = replicated(counts[:240], "log", scale=True)
    assert replicated(counts, "log", scale=True) < of_a_fifth / 2
    monkeypatch.setattr(information, "_MOST_CELLS", 240)
    assert replicated(counts, "log", scale=True) == pytest.approx(of_a_fifth, abs=0.03)


def test_replication_with_few_cells() -> None:
    # neighbourhoods are at most half of the others
    counts = sp.csr_array(np.repeat(clusters(20.0).toarray()[:2], 10, axis=0))
    assert replicated(counts, "log", scale=True) == pytest.approx(1, abs=0.15)


def continuum(depth: float, seed: int, order: np.ndarray | slice = slice(None)) -> list[np.ndarray]:
    """Neighbourhoods of 300 cells in the plane, seen by a modality of 80 features of its own."""
    places = np.random.default_rng(7).normal(size=(300, 2))[order]
    rates = np.exp(places @ np.random.default_rng(seed).normal(0, 0.7, (2, 80)))
    return half_neighborhoods(poisson(depth * rates, (300, 80), seed), "log", scale=True)


def test_concordance_tells_cells_that_are_paired() -> None:
    first = continuum(2.0, 1)
    assert concordance(first, continuum(2.0, 2)) > 0.7
    assert concordance(first, first) > 0.9
    order = np.random.default_rng(0).permutation(300)
    shuffled = continuum(2.0, 2, order)
    assert replication(shuffled) > 0.3  # it is not replication that tells
    assert concordance(first, shuffled) < 0.03
    assert concordance(shuffled, continuum(2.0, 1, order)) > 0.7


def test_concordance_is_not_less_for_being_measured_on_few_counts() -> None:
    deep, shallow = continuum(10.0, 1), continuum(0.5, 1)
    assert replication(shallow) < replication(deep) / 2
    other = continuum(3.0, 2)
    across = [neighborhood_overlap(halves[0], other[1]) for halves in (deep, shallow)]
    assert across[1] < across[0] / 1.5
    assert concordance(shallow, other) == pytest.approx(concordance(deep, other), abs=0.1)


@pytest.mark.parametrize("n_obs", [60, 240])
def test_error_of_concordance_is_the_spread_over_random_pairings(n_obs: int) -> None:
    first, second = (half_neighborhoods(clusters(3, seed)[:n_obs], "log", scale=True) for seed in (0, 1))
    replications = np.array([replication(first), replication(second)])
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        order = rng.permutation(n_obs)
        shuffled = [np.argsort(order)[table][order] for table in second]
        across = [neighborhood_overlap(first[0], shuffled[1]), neighborhood_overlap(first[1], shuffled[0])]
        found.append(np.mean(across) / np.sqrt(replications.prod()))
    error = concordance_error(replications, n_obs)
    assert error[0] == error[1]
    assert np.std(found) == pytest.approx(error[0], rel=0.35)
    assert abs(np.mean(found)) < error[0]


def test_error_of_concordance_by_hand() -> None:
    # of 101 cells, 30 of 100 others are neighbours
    found = concordance_error(np.array([0.4, 0.1, 0.0]), 101)
    overlap = 1 / np.sqrt(101 * 70)
    np.testing.assert_allclose(found, [overlap / 0.2, overlap / 0.2, np.inf])
    assert np.isinf(concordance_error(np.array([0.4, 0.1]), 2)).all()
    assert concordance_error(np.array([0.4, 0.1]), 10**6)[0] == concordance_error(np.array([0.4, 0.1]), 3000)[0]


def test_concordance_is_unknown_where_nothing_replicates() -> None:
    assert np.isnan(concordance(continuum(2.0, 1), []))
    table = continuum(2.0, 1)[0]
    apart = np.column_stack([np.arange(300), [np.setdiff1d(np.arange(300), row)[:30] for row in table]])
    assert np.isnan(concordance([table, apart], continuum(2.0, 2)))


def test_ties_do_not_make_modalities_concordant() -> None:
    # nine cells in ten are empty in both modalities
    empty = [half_neighborhoods(poisson(0.001, (400, 100), seed), "log", scale=True) for seed in (0, 1)]
    assert abs(neighborhood_overlap(empty[0][0], empty[1][1])) < 0.1


@given(r=hnp.arrays(float, st.integers(1, 4), elements=st.floats(0.001, 1)))
def test_weights_of_the_modalities(r: np.ndarray) -> None:
    weights = modality_weights(r)
    np.testing.assert_allclose(weights**2, r / r.sum())
    np.testing.assert_allclose(modality_weights(3 * r), weights)


def test_weights_of_the_modalities_by_hand() -> None:
    np.testing.assert_allclose(modality_weights(np.array([0.1, 0.3])), [0.5, np.sqrt(0.75)])
    np.testing.assert_allclose(modality_weights(np.array([0.0, 0.3])), [0, 1])
    np.testing.assert_allclose(modality_weights(np.array([-0.2, 0.3])), [0, 1])
    np.testing.assert_allclose(modality_weights(np.array([0.0, 0.0])), np.sqrt(0.5))
    np.testing.assert_allclose(modality_weights(np.array([-0.1, 0.0, 0.0])), np.sqrt(1 / 3))


def test_a_second_modality_that_is_not_concordant_weighs_little() -> None:
    r = np.array([0.3, 0.3])
    np.testing.assert_allclose(modality_weights(r, 0.0), [1, 0])
    np.testing.assert_allclose(modality_weights(r, 0.01) ** 2, [1 / 1.2, 0.2 / 1.2])
    for concordant in (0.05, 0.5, float("nan")):
        np.testing.assert_allclose(modality_weights(r, concordant), modality_weights(r))


def test_a_first_modality_of_noise_does_not_take_the_second_down() -> None:
    assert modality_weights(np.array([0.001, 0.3]), 0.0)[1] > 0.99
    np.testing.assert_allclose(modality_weights(np.array([0.01, 0.3]), 0.0) ** 2, [0.01 / 0.16, 0.15 / 0.16])
    np.testing.assert_allclose(modality_weights(np.array([0.0, 0.3]), float("nan")), [0, 1])
    np.testing.assert_allclose(modality_weights(np.array([0.0, 0.0]), float("nan")), np.sqrt(0.5))
