"""Ridge regression beside scikit-learn's, and predictions without a point beside fits without it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

from scmag_muon.manifold.ridge import fit_ridge


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)) + 2
    values = x @ rng.normal(size=(4, 7)) + rng.normal(size=(30, 7))
    return x, np.where(rng.random((30, 7)) < 0.3, 0, values)


@pytest.mark.parametrize("as_stored", [np.asarray, sp.csr_array])
@pytest.mark.parametrize("penalty", [1.0, 8.0])
def test_predictions_are_those_of_scikit_learn(
    points: tuple[np.ndarray, np.ndarray], as_stored: type, penalty: float
) -> None:
    x, values = points
    new = np.random.default_rng(1).normal(size=(5, 4))
    expected = Ridge(alpha=penalty).fit(x, values).predict(new)
    np.testing.assert_allclose(fit_ridge(x, as_stored(values), penalty=penalty).predict(new), expected)


def test_predictions_without_a_point_are_those_of_a_fit_without_it(points: tuple[np.ndarray, np.ndarray]) -> None:
    x, values = points
    rows = np.array([3, 17])
    found = fit_ridge(x, values).predict_without(x[rows], values[rows])
    # the mean of the coordinates is not penalised: add it as a coordinate without a penalty
    for row, predicted in zip(rows, found, strict=True):
        rest = np.delete(np.arange(30), row)
        design = np.column_stack([np.ones(30), x - x.mean(axis=0)])
        scatter = design[rest].T @ design[rest] + np.diag([0, 1, 1, 1, 1])
        slopes = np.linalg.solve(scatter, design[rest].T @ values[rest])
        np.testing.assert_allclose(predicted, design[row] @ slopes)
    assert np.abs(found - fit_ridge(x, values).predict(x[rows])).max() > 0.05
