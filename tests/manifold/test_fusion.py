from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.fusion import fitted_view, fused, fusion_weights, simplex_projection, standardise
from scmag_muon.manifold.neighbors import nearest_neighbors
from scmag_muon.manifold.transforms import View, transform
from tests.reference import manifold as reference

PENALTIES = pytest.mark.parametrize("penalty", [10, 1, 0.1, 0.01])
SEEDS = st.integers(0, 10_000)
VECTORS = hnp.arrays(float, st.integers(1, 6), elements=st.floats(-5, 5).map(lambda x: round(x, 3)))


def similar_views(seed: int = 0, n_views: int = 4) -> list[np.ndarray]:
    """Standardised views of one signal, each with noise of its own strength."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(40, 3))
    return [reference.standardised(signal + rng.uniform(0.2, 1) * rng.normal(size=(40, 3))) for _ in range(n_views)]


def gram_of(views: list[np.ndarray]) -> np.ndarray:
    return np.array([[(a * b).mean() for b in views] for a in views])


@given(v=VECTORS)
@settings(deadline=None, max_examples=60)
def test_projection_is_the_nearest_point_of_the_simplex(v: np.ndarray) -> None:
    found = simplex_projection(v)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, reference.on_simplex(lambda w: ((w - v) ** 2).sum(), len(v)), atol=1e-4)


def test_projection_by_hand() -> None:
    np.testing.assert_allclose(simplex_projection(np.array([0.2, 0.3, 0.5])), [0.2, 0.3, 0.5])
    np.testing.assert_allclose(simplex_projection(np.array([2.0, 0.5, -1])), [1, 0, 0])
    np.testing.assert_allclose(simplex_projection(np.array([0.1, 0.9, 0.6])), [0, 0.65, 0.35])


@PENALTIES
@pytest.mark.parametrize("seed", range(4))
def test_weights_are_the_best_for_the_sum_they_make(penalty: float, seed: int) -> None:
    views = similar_views(seed)
    weights = fusion_weights(gram_of(views), penalty=penalty)
    y = reference.weighted_sum(weights, views)
    best = reference.best_weights(y, views, penalty)
    np.testing.assert_allclose(weights, best, atol=2e-4)
    assert reference.objective(weights, y, views, penalty) <= reference.objective(best, y, views, penalty) + 1e-6


@PENALTIES
def test_weights_are_a_fixed_point(penalty: float) -> None:
    views = similar_views()
    weights = fusion_weights(gram_of(views), penalty=penalty)
    y = reference.weighted_sum(weights, views)
    costs = np.array([((y - view) ** 2).mean() for view in views])
    np.testing.assert_allclose(simplex_projection(-costs / (2 * penalty)), weights, atol=1e-6)


def test_weights_by_hand() -> None:
    # Views 0 and 1 at +a and -a of one direction, view 2 at b: the weights of the pair are equal, w each, and v = 1 - 2w.
    # Y = (0, v b): d = a² + v² b² and (1 - v)² b², and without a bound 2λ (v - w) = d_0 - d_2.
    a, b, penalty = 1.0, 0.5, 1.0
    gram = np.array([[a**2, -(a**2), 0], [-(a**2), a**2, 0], [0, 0, b**2]])
    v = (1 + (a**2 - b**2) / penalty) / (3 - 2 * b**2 / penalty)
    np.testing.assert_allclose(fusion_weights(gram, penalty=penalty), [(1 - v) / 2, (1 - v) / 2, v], atol=1e-6)


@given(seed=SEEDS, n_views=st.integers(1, 5), penalty=st.floats(0.01, 100))
@settings(deadline=None, max_examples=50)
def test_weights_lie_on_the_simplex(seed: int, n_views: int, penalty: float) -> None:
    weights = fusion_weights(gram_of(similar_views(seed, n_views)), penalty=penalty)
    assert weights.shape == (n_views,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)


@given(seed=SEEDS, order=st.permutations(range(4)))
@settings(deadline=None, max_examples=50)
def test_order_of_the_views_does_not_matter(seed: int, order: list[int]) -> None:
    gram = gram_of(similar_views(seed))
    np.testing.assert_allclose(fusion_weights(gram[np.ix_(order, order)]), fusion_weights(gram)[order], atol=1e-6)


def test_penalty_evens_the_weights() -> None:
    gram = gram_of(similar_views())
    np.testing.assert_allclose(fusion_weights(gram, penalty=1e6), 0.25, atol=1e-5)
    spreads = [np.ptp(fusion_weights(gram, penalty=penalty)) for penalty in (10, 1, 0.3)]
    assert spreads == sorted(spreads)
    assert fusion_weights(gram, penalty=1e-4).max() == pytest.approx(1)


def test_view_unlike_the_others_weighs_least() -> None:
    views = similar_views()
    views[2] = -views[2]
    assert fusion_weights(gram_of(views)).argmin() == 2


def views_and_operators(n_vars: int) -> tuple[list[View], list[sp.csr_array], list[np.ndarray], list[list[list[int]]]]:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, (1, n_vars)) * rng.gamma(3.0, 0.3, (50, 1)), (50, n_vars)).astype(float)
    counts[:, 3] = 2
    views = [transform(sp.csr_array(counts), kind) for kind in ("log", "log", "zscore", "clr")]
    dense = [reference.TRANSFORMS[kind](counts) for kind in ("log", "log", "zscore", "clr")]
    tables = [nearest_neighbors(rng.normal(size=(50, 3)), p) for p in (5, 6, 7, 8)]
    return views, [fitting_operator(table) for table in tables], dense, [table.tolist() for table in tables]


@pytest.mark.parametrize("n_vars", [20, 256, 520])
def test_fitted_view_equals_reference(n_vars: int) -> None:
    views, operators, dense, tables = views_and_operators(n_vars)
    for view, operator, y, around in zip(views, operators, dense, tables, strict=True):
        found = fitted_view(view, operator)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, reference.means(y, around), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_vars", [20, 520])
@pytest.mark.parametrize("batches", [None, np.arange(50) % 3, np.array([0] * 45 + [4] * 5)])
@pytest.mark.parametrize("penalty", [1, 0.05])
def test_fused_equals_reference(n_vars: int, batches: np.ndarray | None, penalty: float) -> None:
    views, operators, dense, tables = views_and_operators(n_vars)
    found, weights, _ = fused(views, operators, penalty=penalty, batches=batches)
    fitted = [reference.means(y, around) for y, around in zip(dense, tables, strict=True)]
    expected, expected_weights = reference.fused(fitted, penalty, batches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(weights, expected_weights, atol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_weights_of_many_features_are_those_of_blocks_spread_over_all() -> None:
    views, operators, dense, tables = views_and_operators(2100)
    found, weights, _ = fused(views, operators, penalty=2)
    fitted = [reference.means(y, around) for y, around in zip(dense, tables, strict=True)]
    chosen = np.concatenate([np.arange(start, min(start + 64, 2100)) for start in range(0, 2100, 3 * 64)])
    _, expected = reference.fused([y[:, chosen] for y in fitted], 2)
    assert 0.02 < weights.min() < 0.24
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    of_all, weights_of_all = reference.fused(fitted, 2)
    np.testing.assert_allclose(weights, weights_of_all, atol=0.02)
    assert np.abs(found - of_all).mean() < 0.02


@pytest.mark.parametrize("batches", [None, np.arange(50) % 3, np.array([0] * 45 + [3] * 5)])
def test_moments_give_the_fused_rows(batches: np.ndarray | None) -> None:
    views, operators, _, _ = views_and_operators(70)
    found, _, moments = fused(views, operators, batches=batches)
    # what a view adds to all of a feature is not in the rows that the moments take
    bare = [View(view.values, view.row_offset, np.zeros(70, np.float32), view.scale) for view in views]
    fitted = np.array([operator @ view.toarray() for operator, view in zip(operators, bare, strict=True)])
    codes = np.full(50, -1) if batches is None else batches
    rows = np.einsum("vnf,nvf->nf", fitted, moments.slopes[codes]) + moments.intercepts[codes]
    np.testing.assert_allclose(rows, found, atol=2e-4)
    assert len(moments.slopes) == codes.max() + 2
    shares = np.array([(codes == code).mean() for code in range(len(moments.slopes) - 1)])
    if batches is not None:
        np.testing.assert_allclose(
            np.einsum("b,bf->f", shares, moments.intercepts[:-1]), moments.intercepts[-1], atol=1e-4
        )
    for code in np.flatnonzero(shares == 0):
        np.testing.assert_array_equal(moments.slopes[code], moments.slopes[-1])


def test_fused_needs_one_operator_for_each_view() -> None:
    views, operators, _, _ = views_and_operators(20)
    with pytest.raises(ValueError, match="shorter"):
        fused(views, operators[:3])


@pytest.mark.parametrize("batches", [None, np.array([0, 1] * 30), np.array([7] * 50 + [2] * 9 + [5])])
def test_standardise(batches: np.ndarray | None) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, size=(60, 4)).astype(np.float32)
    x[:, 2] = 1.3
    found = standardise(x, batches)
    np.testing.assert_allclose(found, reference.standardised(x.astype(float), batches), atol=1e-5)
    assert found.dtype == np.float32
    assert not found[:, 2].any()
