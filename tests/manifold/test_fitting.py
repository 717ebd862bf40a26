from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scmag_muon.manifold.components import principal_components
from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.fusion import fitted_view
from scmag_muon.manifold.neighbors import nearest_neighbors, shared_neighbors
from scmag_muon.manifold.transforms import transform
from tests.reference import manifold as reference

KERNELS = pytest.mark.parametrize("kernel", ["rbf", "poly"])
STEPS = pytest.mark.parametrize("step", [1, 0.7, 0.01])


def points(n: int = 40, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def fit(y: np.ndarray, p: int, kernel: str, step: float = 1.0) -> np.ndarray:
    lists = nearest_neighbors(y, p, kernel=kernel)
    return fitting_operator(shared_neighbors(lists, y, kernel=kernel), step=step).toarray() @ y


@STEPS
def test_rows_sum_to_one_and_no_entry_is_negative(step: float) -> None:
    operator = fitting_operator(nearest_neighbors(points(), 7), step=step)
    np.testing.assert_allclose(operator.sum(axis=1), 1, rtol=1e-6)
    assert operator.data.min() > 0
    assert operator.dtype == np.float32
    assert operator.nnz == 40 * 7


def test_mean_of_the_shared_neighborhood() -> None:
    around = np.array([[0, 1], [1, 3], [2, 0], [3, 2]])
    expected = [[0.5, 0.5, 0, 0], [0, 0.5, 0, 0.5], [0.5, 0, 0.5, 0], [0, 0, 0.5, 0.5]]
    np.testing.assert_array_equal(fitting_operator(around).toarray(), expected)


def test_steps_shorter_than_one() -> None:
    around = np.array([[0, 1], [1, 0], [2, 1]])
    np.testing.assert_allclose(
        fitting_operator(around, step=0.5).toarray(), [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    )


@KERNELS
@pytest.mark.parametrize("p", [1, 2, 15, 40])
@STEPS
def test_equals_reference(kernel: str, p: int, step: float) -> None:
    y = points()
    mean = reference.means(y, reference.neighborhoods(y, p, kernel))
    np.testing.assert_allclose(fit(y, p, kernel, step), reference.on_line(y, mean, step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [0, -0.5, 1.01, float("nan")])
def test_step_out_of_range(step: float) -> None:
    with pytest.raises(ValueError, match="`step` must lie in"):
        fitting_operator(np.array([[0], [1]]), step=step)


@given(seed=st.integers(0, 1000), p=st.integers(2, 10))
@settings(deadline=None, max_examples=8)
def test_density_of_eq_9_is_always_highest_at_the_mean(seed: int, p: int) -> None:
    # The search along the line from K to F is needless: it ends at F, t = 1, and never before or beyond.
    y = points(25, 3, seed)
    grid = np.linspace(0, 3, 301)
    for i, around in enumerate(reference.neighborhoods(y, p, "rbf")):
        mean = y[around].mean(axis=0)
        heights = [reference.density(reference.on_line(y[i], mean, t), y[around]) for t in grid]
        assert grid[np.argmax(heights)] == pytest.approx(1)
        assert np.all(np.diff(heights[:101]) > 0)
        assert np.all(np.diff(heights[100:]) < 0)


def test_mean_is_the_limit_of_the_truncated_weights() -> None:
    # eq. 6, which eq. 8 replaces by the mean: near points would weigh more, those beyond r0 nothing
    y = points()
    around = nearest_neighbors(y, 8)
    row = fitting_operator(around).toarray()[0, around[0]]
    np.testing.assert_allclose(reference.truncated_weights(y[0], y[around[0]], 1e6), row, rtol=1e-6)
    radius = np.sqrt(((y[around[0]] - y[0]) ** 2).sum(axis=1))[4]
    near = reference.truncated_weights(y[0], y[around[0]], radius)
    assert near.sum() == pytest.approx(1)
    assert (np.diff(near[:5]) < 0).all()
    assert not near[4:].any()


@KERNELS
@given(seed=st.integers(0, 10_000), p=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_order_of_the_cells_does_not_matter(kernel: str, seed: int, p: int) -> None:
    y = points(30, 4, seed)
    order = np.random.default_rng(seed).permutation(30)
    np.testing.assert_allclose(fit(y[order], p, kernel), fit(y, p, kernel)[order], rtol=1e-5, atol=1e-6)


@KERNELS
@given(seed=st.integers(0, 10_000), p=st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_order_of_the_features_does_not_matter(kernel: str, seed: int, p: int) -> None:
    y = points(30, 6, seed)
    order = np.random.default_rng(seed).permutation(6)
    np.testing.assert_allclose(fit(y[:, order], p, kernel), fit(y, p, kernel)[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["log", "zscore", "clr"])
@pytest.mark.parametrize("n_pcs", [5, 20])
def test_order_of_cells_and_features_does_not_matter_from_the_counts_on(kind: str, n_pcs: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.gamma(2.0, np.exp(rng.normal(size=(80, 3)) @ rng.normal(size=(3, 20))))

    def fitted(counts: np.ndarray) -> np.ndarray:
        view = transform(sp.csr_array(counts), kind)
        scores = principal_components(view, n_pcs)
        around = shared_neighbors(nearest_neighbors(scores, 10), scores)
        return fitted_view(view, fitting_operator(around))

    cells, features = rng.permutation(80), rng.permutation(20)
    np.testing.assert_allclose(fitted(counts[cells][:, features]), fitted(counts)[cells][:, features], atol=1e-4)


@KERNELS
def test_fitting_shrinks_the_noise_around_a_curve(kernel: str) -> None:
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 400)
    noisy = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.1 * rng.normal(size=(400, 2))
    off = [np.abs(np.linalg.norm(points, axis=1) - 1).mean() for points in (noisy, fit(noisy, 15, kernel))]
    assert off[1] < 0.6 * off[0]
