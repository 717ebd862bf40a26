from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.manifold import kernels
from scmag_muon.manifold.neighbors import nearest_neighbors
from tests.reference import manifold as reference

KERNELS = pytest.mark.parametrize("kernel", ["rbf", "poly"])
GAMMA = 0.3


@pytest.fixture
def y() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(30, 6)) * np.array([3, 2, 1, 1, 0.5, 0.1])


@pytest.mark.parametrize("sigma", [0.5, 2.0, 10.0])
def test_gaussian_kernel(y: np.ndarray, sigma: float) -> None:
    np.testing.assert_allclose(kernels.rbf(y, y, sigma), reference.rbf_kernel(y, sigma), rtol=1e-9, atol=1e-12)


def test_polynomial_kernel(y: np.ndarray) -> None:
    np.testing.assert_allclose(kernels.polynomial(y, y), reference.poly_kernel(y), rtol=1e-9)
    scaled = reference.poly_kernel(np.sqrt(GAMMA) * y)
    np.testing.assert_allclose(kernels.polynomial(y, y, gamma=GAMMA), scaled, rtol=1e-9, atol=1e-12)


def test_distance_in_the_space_of_the_polynomial_kernel(y: np.ndarray) -> None:
    expected = reference.kernel_distance(reference.poly_kernel(np.sqrt(GAMMA) * y))
    found = kernels.squared_distance(y, y, "poly", gamma=GAMMA)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    # the same from the points' images themselves: all products of two of (1, y)
    extended = np.column_stack([np.ones(len(y)), np.sqrt(GAMMA) * y])
    images = np.einsum("ij,ik->ijk", extended, extended).reshape(len(y), -1)
    np.testing.assert_allclose(found, ((images[:, None] - images[None]) ** 2).sum(axis=2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 30.0])
def test_distance_in_the_space_of_the_gaussian_kernel_orders_pairs_as_the_euclidean(
    y: np.ndarray, sigma: float
) -> None:
    y = y / 5
    euclidean = kernels.squared_distance(y, y, "rbf")
    np.testing.assert_allclose(euclidean, ((y[:, None] - y[None]) ** 2).sum(axis=2), rtol=1e-9, atol=1e-9)
    in_kernel_space = reference.kernel_distance(reference.rbf_kernel(y, sigma))
    np.testing.assert_allclose(in_kernel_space, 2 - 2 * np.exp(-euclidean / (2 * sigma**2)), rtol=1e-9, atol=1e-9)
    pairs = np.triu_indices(len(y), 1)
    np.testing.assert_array_equal(np.argsort(euclidean[pairs]), np.argsort(in_kernel_space[pairs]))


@KERNELS
def test_distance_between_two_sets(y: np.ndarray, kernel: str) -> None:
    whole = kernels.squared_distance(y, y, kernel, gamma=GAMMA)
    part = kernels.squared_distance(y[3:8], y, kernel, gamma=GAMMA)
    np.testing.assert_allclose(part, whole[3:8], rtol=1e-9, atol=1e-9)


@KERNELS
def test_distance_of_pairs(y: np.ndarray, kernel: str) -> None:
    first, second = np.random.default_rng(1).integers(0, len(y), (2, 50))
    whole = kernels.squared_distance(y, y, kernel, gamma=GAMMA)
    pairs = kernels.squared_distance_pairs(y[first], y[second], kernel, gamma=GAMMA)
    np.testing.assert_allclose(pairs, whole[first, second], rtol=1e-9, atol=1e-9)


@KERNELS
def test_distance_is_never_negative(kernel: str) -> None:
    y = (1000 + np.random.default_rng(0).normal(size=(40, 20))).astype(np.float32)
    assert kernels.squared_distance(y, y, kernel, gamma=kernels.poly_gamma(y)).min() == 0


def test_polynomial_kernel_distinguishes_what_the_gaussian_does_not() -> None:
    # both of the others are at Euclidean distance 1 of the first, one of them in its direction, one across it
    y = np.array([[4.0, 0], [5, 0], [4, 1]])
    assert np.ptp(kernels.squared_distance(y[:1], y[1:], "rbf")) == pytest.approx(0)
    along, across = kernels.squared_distance(y[:1], y[1:], "poly")[0]
    assert (along, across) == pytest.approx((17**2 + 26**2 - 2 * 21**2, 17**2 + 18**2 - 2 * 17**2))
    assert across < along


def test_scale_of_the_inner_products(y: np.ndarray) -> None:
    gamma = kernels.poly_gamma(y)
    assert gamma == pytest.approx(1 / (y**2).sum(axis=1).mean())
    assert gamma * kernels.poly_gamma(7 * y) == pytest.approx(gamma**2 / 49)
    np.testing.assert_allclose(np.sqrt(gamma) * y, reference.unit_norm(y), rtol=1e-12)
    assert np.isfinite(kernels.poly_gamma(np.zeros((3, 2))))


@KERNELS
def test_neighbors_do_not_depend_on_units(y: np.ndarray, kernel: str) -> None:
    np.testing.assert_array_equal(nearest_neighbors(y, 8, kernel=kernel), nearest_neighbors(1000 * y, 8, kernel=kernel))
