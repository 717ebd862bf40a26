from __future__ import annotations

import numpy as np
import pytest

from scmag_muon.manifold.alignment import batch_shift

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
