"""Checks of arguments: numbers in range, choices, seeds, names of keyword arguments."""

from __future__ import annotations

import difflib
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MOST_SEED = 2**32 - 1


def check_number(
    name: str,
    value: Any,
    *,
    integer: bool = False,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    optional: bool = False,
) -> Any:
    """Return the number as a plain ``int`` or ``float``, or refuse it.

    Parameters
    ----------
    name
        Name of the argument, for the message.
    value
        What the user gave.
    integer
        Take integers only.
    low, high
        Bounds that may be reached.
    above
        Lower bound that may not be reached.
    optional
        Take ``None`` and return it.

    Raises
    ------
    TypeError
        If the value is no number (``True`` and ``False`` are none), or no integer where one is wanted.
    ValueError
        If it is not finite or out of range.

    Examples
    --------
    >>> check_number("n_pcs", 30, integer=True, low=1)
    30
    >>> check_number("step", 2, above=0, high=1)
    Traceback (most recent call last):
    ...
    ValueError: `step` must be a number above 0 and at most 1, got 2.
    """
    if value is None and optional:
        return None
    wanted = _wanted(integer=integer, low=low, high=high, above=above, optional=optional)
    kind: Any = Integral if integer else Real
    if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
        raise TypeError(f"`{name}` must be {wanted}, got {value!r} of type {type(value).__name__}.")
    number = int(value) if integer else float(value)
    inside = (low is None or number >= low) and (high is None or number <= high) and (above is None or number > above)
    if not math.isfinite(number) or not inside:
        raise ValueError(f"`{name}` must be {wanted}, got {value}.")
    return number


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse what is none of the choices, naming them and the nearest."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}.{_nearest(value, choices)}")


def check_names(what: str, given: Iterable[Any], known: Collection[str]) -> None:
    """Refuse keyword arguments of other names, naming those that there are and the nearest.

    Raises
    ------
    TypeError
        If a name is not among ``known``.
    """
    for name in given:
        if name not in known:
            raise TypeError(f"{what} has no {name!r}.{_nearest(name, known)} It has {', '.join(sorted(known))}.")


def check_random_state(value: Any, name: str = "random_state") -> int:
    """Return the seed as a plain ``int``; draw one for ``None``, so that it can be recorded and the run repeated.

    Raises
    ------
    TypeError
        If the value is neither an integer nor ``None``.
    ValueError
        If it is negative or above 2³² - 1.
    """
    if value is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(check_number(name, value, integer=True, low=0, high=MOST_SEED, optional=True))


def shifted_seed(seed: int, by: int) -> int:
    """Another seed, ``by`` further on; the largest is followed by 0."""
    return (seed + by) % (MOST_SEED + 1)


def _wanted(*, integer: bool, low: float | None, high: float | None, above: float | None, optional: bool) -> str:
    bounds = [f"at least {_plain(low)}"] if low is not None else [f"above {_plain(above)}"] if above is not None else []
    if high is not None:
        bounds.append(f"at most {_plain(high)}")
    kind = "an integer" if integer else "a number" if bounds else "a finite number"
    return " ".join(part for part in (kind, " and ".join(bounds), "or None" if optional else "") if part)


def _plain(number: float | None) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)


def _nearest(value: Any, known: Collection[Any]) -> str:
    close = difflib.get_close_matches(str(value), [str(name) for name in known], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
