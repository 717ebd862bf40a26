from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from scmag_muon._checks import check_choice, check_names, check_number, check_random_state, shifted_seed


@pytest.mark.parametrize("value", [True, np.True_, "3", None, [3], np.array(3), 3.0, np.float64(3)])
def test_no_integer(value: object) -> None:
    with pytest.raises(TypeError, match="`n` must be an integer at least 1, got"):
        check_number("n", value, integer=True, low=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0, 1.5, np.float32("nan")])
def test_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match="`step` must be a number above 0 and at most 1, got"):
        check_number("step", value, above=0, high=1)


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers_become_plain(value: int) -> None:
    assert type(check_number("n", value, integer=True, low=3, high=3)) is int


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_numbers_become_plain(value: float) -> None:
    found = check_number("x", value)
    assert (found, type(found)) == (0.5, float)


def test_none_only_where_it_is_a_choice() -> None:
    assert check_number("x", None, optional=True) is None
    with pytest.raises(TypeError, match="a finite number, got None"):
        check_number("x", None)


def test_nearest_name() -> None:
    with pytest.raises(TypeError, match=r"The plan has no 'patiance'. Did you mean 'patience'\? It has lr, patience\."):
        check_names("The plan", ["lr", "patiance"], {"lr", "patience"})


def test_choice() -> None:
    check_choice("settings", "paper", ("default", "paper"))
    with pytest.raises(ValueError, match=r"one of 'default', 'paper', got 'papr'. Did you mean 'paper'\?"):
        check_choice("settings", "papr", ("default", "paper"))
    with pytest.raises(ValueError, match="got True"):
        check_choice("n", True, (1, 2))  # True == 1


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(7), np.uint32(2**32 - 1)])
def test_seeds(seed: int) -> None:
    assert check_random_state(seed) == int(seed)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_no_seeds(seed: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="`random_state` must be an integer at least 0 and at most 4294967295 or None"):
        check_random_state(seed)


def test_none_is_another_seed_each_time() -> None:
    assert len({check_random_state(None) for _ in range(5)}) > 1


def test_seed_after_the_largest() -> None:
    assert shifted_seed(2**32 - 1, 1) == 0
    assert shifted_seed(5, 1000) == 1005
