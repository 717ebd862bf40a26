from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

from scmag_muon.manifold import singular
from scmag_muon.manifold.singular import leading_singular_vectors


def matrix(n_rows: int, n_columns: int, rank: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_columns))
    return (signal + rng.normal(size=(n_rows, n_columns))).astype(np.float32)


@pytest.mark.parametrize("shape", [(900, 400), (400, 900), (300, 24), (60, 60)])
@pytest.mark.parametrize("k", [3, 20])
def test_equals_numpy(shape: tuple[int, int], k: int) -> None:
    x = matrix(*shape)
    left, values, right = leading_singular_vectors(aslinearoperator(x), k)
    _, expected, expected_right = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(values, expected[:k], rtol=1e-3)
    np.testing.assert_allclose(left.T @ left, np.eye(k), atol=1e-3)
    np.testing.assert_allclose(right @ right.T, np.eye(k), atol=1e-4)
    signal = min(k, 12)  # beyond it values lie close together and vectors mix
    np.testing.assert_allclose(np.abs((right * expected_right[:k]).sum(axis=1))[:signal], 1, atol=1e-3)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_rank_below_the_number_of_vectors(rank: int) -> None:
    x = np.random.default_rng(0).normal(size=(200, rank)) @ np.random.default_rng(1).normal(size=(rank, 90))
    _, values, _ = leading_singular_vectors(aslinearoperator(x.astype(np.float32)), 10)
    expected = np.linalg.svd(x, compute_uv=False)[:10]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-3)


def test_repeats_with_the_seed_and_does_not_depend_on_it() -> None:
    x = aslinearoperator(matrix(500, 300))
    first, again, other = (leading_singular_vectors(x, 8, random_state=seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, other, rtol=1e-3)


def test_ends_where_values_cannot_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(singular, "_MOST_PER_COMPONENT", 6)
    noise = aslinearoperator(matrix(900, 800, rank=0))
    assert leading_singular_vectors(noise, 10, tol=1e-12)[1].shape == (10,)
