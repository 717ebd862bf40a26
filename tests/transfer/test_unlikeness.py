from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scmag_muon.transfer.unlikeness import _relative, unlikeness


def cells(n: int, seed: int) -> np.ndarray:
    """A dense type and one spread four times as far."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    x[n // 2 :] = 4 * x[n // 2 :] + 30
    return x


def types(n: int) -> np.ndarray:
    return np.repeat(["a", "b"], [n // 2, n - n // 2])


def test_cells_like_the_reference_are_seldom_beyond_one() -> None:
    reference, own = cells(600, 0), cells(1000, 1)
    for samples in (None, np.repeat("one", 1000)):
        found = unlikeness(own, reference, types(600), samples=samples)
        assert 0.001 < (found > 1).mean() < 0.03


def test_a_type_that_the_reference_lacks_is_beyond_one() -> None:
    reference = cells(600, 0)
    novel = np.random.default_rng(2).normal(size=(100, 5)) + np.array([12, -12, 0, 0, 0])
    found = unlikeness(np.concatenate([cells(400, 3), novel]), reference, types(600))
    assert (found[400:] > 1).mean() > 0.95
    assert roc_auc_score(np.arange(500) >= 400, found) > 0.99


def test_one_is_exceeded_by_one_in_a_hundred_of_the_reference_without_itself() -> None:
    reference = cells(200, 4)
    labels = types(200)
    own = np.array(
        [unlikeness(reference[[i]], np.delete(reference, i, axis=0), np.delete(labels, i))[0] for i in range(200)]
    )
    assert 0.005 <= (own > 1).mean() <= 0.02


def plane(n: int, seed: int, at: float) -> np.ndarray:
    """Cells that scatter widely in two directions and little in a third, in which ``at`` is their place."""
    return np.random.default_rng(seed).normal(size=(n, 3)) * [5, 5, 0.3] + [0, 0, at]


def test_cells_between_types_are_beyond_one_along_what_tells_the_types_apart() -> None:
    reference = np.concatenate([plane(300, 0, -2), plane(300, 1, 2)])
    x = np.concatenate([plane(150, 2, -2), plane(150, 3, 2), plane(100, 4, 0)])
    novel = np.arange(400) >= 300
    by_type = unlikeness(x, reference, types(600))
    assert roc_auc_score(novel, by_type) > 0.99
    assert (by_type[novel] > 1).mean() > 0.8
    assert roc_auc_score(novel, unlikeness(x, reference, np.repeat("a", 600))) < 0.9


def test_what_all_types_scatter_by_tells_no_new_type() -> None:
    reference = np.concatenate([plane(300, 0, -2), plane(300, 1, 2)])
    between, outlying = np.array([[0, 0, -1.0], [0, 0, 1.0]]), np.array([[17, 0, -2.0], [0, 17, 2.0]])
    _, found = _relative(np.concatenate([between, outlying]), reference, types(600), 0)
    assert found[:2].min() > found[2:].max() + 5


def test_groups_are_learnt_without_the_cells_that_are_measured() -> None:
    rng = np.random.default_rng(0)
    reference, x = rng.normal(size=(90, 40)), rng.normal(size=(2000, 40))
    assert (unlikeness(x, reference, np.repeat(list("abc"), 30)) > 1).mean() < 0.06


def test_company_of_the_same_sample_tells_a_type_from_chance() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(500, 4))
    x = np.concatenate([rng.normal(size=(300, 4)), 0.3 * rng.normal(size=(60, 4)) + [1.9, 1.9, 0, 0]])
    novel, samples = np.arange(360) >= 300, np.repeat("one", 360)
    alone, together = (
        roc_auc_score(novel, unlikeness(x, reference, np.repeat("a", 500), samples=of)) for of in (None, samples)
    )
    assert together > alone + 0.02
    few = np.where(np.arange(360) < 19, "few", "many")
    found = unlikeness(x, reference, np.repeat("a", 500), samples=few)
    np.testing.assert_array_equal(found[:19], unlikeness(x, reference, np.repeat("a", 500))[:19])
    rest = unlikeness(x[19:], reference, np.repeat("a", 500), samples=few[19:])
    np.testing.assert_allclose(found[19:], rest)


def test_far_cells_stay_in_order() -> None:
    reference = cells(100, 0)
    line = np.linspace(0, 500, 30)[:, None] * np.ones(5) + 60
    assert (np.diff(unlikeness(line, reference, types(100))) > 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 20, 30])
def test_few_or_equal_reference_cells(n: int) -> None:
    x, labels = np.ones((n, 2)), np.arange(n) % 3
    assert np.isfinite(unlikeness(x, x, labels)).all()
    assert (unlikeness(x, x, labels) <= 1).all()
    assert n == 1 or (unlikeness(x + 5, x, labels) > 1).all()
