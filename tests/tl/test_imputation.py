"""Scores of imputed counts, beside loops over cells and features."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.tl._imputation import _scores, without_self


def test_scores_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(size=(40, 6))
    imputed = known * rng.normal(size=6) + rng.normal(size=(40, 6)) + 3
    known[:, 2], imputed[:, 4] = 1.5, -2.0
    found = _scores(imputed, known)
    for j in range(6):
        r = np.nan if j in (2, 4) else np.corrcoef(imputed[:, j], known[:, j])[0, 1]
        error = np.sqrt(sum((a - b) ** 2 for a, b in zip(imputed[:, j], known[:, j], strict=True)) / 40)
        assert found["r"].iloc[j] == pytest.approx(r, nan_ok=True)
        assert found["rmse"].iloc[j] == pytest.approx(error)


def test_operator_rows_without_the_cell_itself() -> None:
    rng = np.random.default_rng(1)
    dense = np.where(rng.random((7, 12)) < 0.4, rng.random((7, 12)), 0)
    rows = np.array([1, 2, 5, 6, 8, 10, 11])
    dense[np.arange(7), rows] = [0.5, 0.1, 0, 0.3, 0.2, 1, 0.4]
    dense[5] = np.eye(12)[10]  # all to itself
    dense[6] = 0
    dense /= np.maximum(dense.sum(axis=1, keepdims=True), 1e-12)
    operator = sp.csr_array(dense)
    before = operator.copy()
    expected = dense.copy()
    for i, cell in enumerate(rows):
        rest = dense[i].sum() - dense[i, cell]
        if rest > 0:
            expected[i, cell] = 0
            expected[i] = expected[i] / rest
    found = without_self(operator, rows)
    np.testing.assert_allclose(found.toarray(), expected)
    np.testing.assert_allclose(found.sum(axis=1)[:6], 1)
    np.testing.assert_array_equal(operator.toarray(), before.toarray())
