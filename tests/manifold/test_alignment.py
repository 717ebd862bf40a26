from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.manifold.alignment import batch_positions, batch_shift

TYPES = np.random.default_rng(0).normal(size=(5, 6)) * 4


def cells(types: list[int], n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return TYPES[rng.choice(types, n)] + rng.normal(size=(n, 6))


REFERENCE = cells([0, 1, 2, 3, 4], 600, 1)


@pytest.mark.parametrize("types", [[0, 1, 2, 3, 4], [2], [0, 4]])
def test_a_shift_is_found_whichever_types_a_batch_holds(types: list[int]) -> None:
    shift = np.array([1.5, -1, 0.5, 0, 1, -1.5])
    found = batch_shift(cells(types, 200, 2) - shift, REFERENCE)
    assert np.linalg.norm(found - shift) < 0.4 * np.linalg.norm(shift)


@pytest.mark.parametrize("types", [[0, 1, 2, 3, 4], [2], [0, 4]])
def test_there_is_none_where_a_batch_only_holds_other_types(types: list[int]) -> None:
    assert np.linalg.norm(batch_shift(cells(types, 200, 3), REFERENCE)) < 0.15


def test_scale_and_order_play_no_part() -> None:
    x = cells([0, 1], 90, 4) + 1
    np.testing.assert_allclose(batch_shift(x * 7, REFERENCE * 7), 7 * batch_shift(x, REFERENCE), rtol=1e-6)
    np.testing.assert_allclose(batch_shift(x[::-1], REFERENCE), batch_shift(x, REFERENCE), rtol=1e-6)


def test_reference_cells_that_are_all_alike_shift_nothing() -> None:
    np.testing.assert_array_equal(batch_shift(np.ones((30, 2)), np.zeros((50, 2))), 0)


SHIFT = np.array([1.5, -1, 0.5, 0, 1, -1.5])


def difference(x: np.ndarray, y: np.ndarray, **arguments: int) -> np.ndarray:
    """How far apart two batches are said to lie."""
    first, second = batch_positions(np.vstack([x, y]), np.repeat([0, 1], [len(x), len(y)]), 2, **arguments)
    return second - first


@pytest.mark.parametrize("types", [[0, 1, 2], [1, 3, 4], [0, 4]])
def test_batches_that_lie_apart_are_told_whichever_types_they_hold(types: list[int]) -> None:
    found = difference(cells([0, 1, 2, 3, 4], 400, 1), cells(types, 300, 2) + SHIFT)
    assert np.linalg.norm(found - SHIFT) < 0.2 * np.linalg.norm(SHIFT)


@pytest.mark.parametrize("types", [[0, 1, 2], [0, 4], [2]])
def test_batches_that_hold_other_types_lie_in_one_place(types: list[int]) -> None:
    assert np.linalg.norm(difference(REFERENCE, cells(types, 300, 3))) < 0.5


def test_batches_that_hold_the_same_types_in_like_shares_lie_at_their_means() -> None:
    x, y = cells([0, 1, 2, 3, 4], 400, 1), cells([0, 1, 2, 3, 4], 300, 2) + SHIFT
    np.testing.assert_allclose(difference(x, y), y.mean(axis=0) - x.mean(axis=0), atol=1e-5)


def test_positions_have_the_mean_of_all_cells() -> None:
    x = np.vstack([REFERENCE, cells([0, 1], 200, 4) + SHIFT])
    codes = np.repeat([2, 0], [600, 200])
    found = batch_positions(x, codes, 4)
    np.testing.assert_allclose(found[codes].mean(axis=0), x.mean(axis=0), atol=1e-4)
    np.testing.assert_array_equal(found[[1, 3]], 0)


def test_a_single_batch_lies_at_its_mean() -> None:
    np.testing.assert_allclose(batch_positions(REFERENCE, np.zeros(600, int), 1)[0], REFERENCE.mean(axis=0), atol=1e-5)


def test_no_batches_have_no_positions() -> None:
    assert batch_positions(REFERENCE, None, 0).shape == (0, 6)


def test_cells_that_differ_by_batch_alone_lie_at_their_means() -> None:
    codes = np.repeat([0, 1], 30)
    found = batch_positions(np.where(codes[:, None] == 0, 1.0, 3.0) * np.ones((60, 2)), codes, 2)
    np.testing.assert_allclose(found, [[1, 1], [3, 3]])


def test_many_cells_are_judged_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scmag_muon.manifold.alignment._MOST_CELLS", 500)
    found = difference(cells([0, 1, 2, 3, 4], 1500, 1), cells([0, 1, 2], 600, 2) + SHIFT)
    assert np.linalg.norm(found - SHIFT) < 0.3 * np.linalg.norm(SHIFT)
