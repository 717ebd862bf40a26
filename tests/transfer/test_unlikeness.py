from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scmag_muon.transfer.unlikeness import unlikeness


def cells(n: int, seed: int) -> np.ndarray:
    """A dense type and one spread four times as far."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[n // 2 :] = 4 * x[n // 2 :] + 30
    return x


def test_cells_like_the_reference_are_seldom_beyond_one() -> None:
    reference, own = cells(600, 0), cells(1000, 1)
    found = unlikeness(own, reference)
    assert 0.001 < (found > 1).mean() < 0.03


def test_a_type_that_the_reference_lacks_is_beyond_one() -> None:
    reference = cells(600, 0)
    novel = np.random.default_rng(2).normal(size=(100, 5)) + np.array([12, -12, 0, 0, 0])
    found = unlikeness(np.concatenate([cells(400, 3), novel]), reference)
    assert (found[400:] > 1).mean() > 0.95
    assert roc_auc_score(np.arange(500) >= 400, found) > 0.99


def test_one_is_exceeded_by_one_in_a_hundred_of_the_reference_without_itself() -> None:
    reference = cells(200, 4)
    own = np.array([unlikeness(reference[[i]], np.delete(reference, i, axis=0))[0] for i in range(200)])
    assert 0.005 <= (own > 1).mean() <= 0.02


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_few_or_equal_reference_cells(n: int) -> None:
    x = np.ones((n, 2))
    assert np.isfinite(unlikeness(x, x)).all()
    assert (unlikeness(x, x) <= 1).all()
    assert n == 1 or (unlikeness(x + 5, x) > 1).all()
