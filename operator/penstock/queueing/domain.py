"""Checks of the numbers that enter a formula: each returns the value as float or float array.

Scalars come back as ``float``, anything array-like as an array of float64, so that the formulas
are written once for both. NaN never passes: every comparison is written so that NaN fails it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.queueing.errors import InvalidParameter, UnstableQueue

FloatArray: TypeAlias = NDArray[np.float64]
FloatOrArray: TypeAlias = float | FloatArray
Numbers: TypeAlias = float | NDArray[Any] | Sequence[float]


def non_negative(name: str, value: Numbers) -> FloatOrArray:
    """Return a finite value >= 0."""
    return _checked(name, value, lambda x: (x >= 0) & (x < np.inf), "must be a finite number >= 0")


def positive(name: str, value: Numbers) -> FloatOrArray:
    """Return a finite value > 0."""
    return _checked(name, value, lambda x: (x > 0) & (x < np.inf), "must be a finite number > 0")


def whole_number(name: str, value: Numbers, least: int = 1) -> FloatOrArray:
    """Return a whole number >= `least` (4.0 is accepted, 4.5 is not)."""
    return _checked(
        name,
        value,
        lambda x: (x >= least) & (x < np.inf) & (x == np.floor(x)),
        f"must be a whole number >= {least}",
    )


def probability_below_one(name: str, value: Numbers) -> FloatOrArray:
    """Return a probability in [0, 1): the 100 % quantile of an unbounded wait is infinite."""
    return _checked(name, value, lambda x: (x >= 0) & (x < 1), "must be in [0, 1), such as 0.95")


def ratio(name: str, value: float) -> float:
    """Return one number in (0, 1]."""
    return float(
        _checked(name, one("a ratio", name, value), lambda x: (x > 0) & (x <= 1), "must be in (0, 1]")
    )


def one(what: str, name: str, value: Numbers) -> float:
    """Return `value` as one float; refuse arrays where the formula is written for one queue."""
    if np.ndim(value) != 0:
        raise InvalidParameter(name, f"must be one number: {what} takes no arrays, build one per entry")
    return _float_of(name, value)


def require_stable(offered_load: FloatOrArray, servers: FloatOrArray) -> None:
    """Raise UnstableQueue for the first entry whose offered load reaches its servers."""
    overloaded = np.atleast_1d(np.asarray(offered_load) >= np.asarray(servers))
    if not overloaded.any():
        return
    load, count = np.broadcast_arrays(np.atleast_1d(offered_load), np.atleast_1d(servers))
    first = tuple(int(i) for i in np.argwhere(overloaded)[0])
    where = "" if overloaded.size == 1 else f" at index {', '.join(map(str, first))}"
    raise UnstableQueue(float(load[first]), float(count[first]), where)


def same_kind(value: Any) -> FloatOrArray:
    """Return a zero-dimensional result as float, an array as it is."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)


def _checked(name: str, value: Numbers, valid: Callable[[Any], Any], rule: str) -> FloatOrArray:
    if np.ndim(value) == 0:
        number = _float_of(name, value)
        if not valid(number):
            raise InvalidParameter(name, f"{rule}, got {number:g}")
        return number
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(name, f"{rule}, got {value!r}") from error
    wrong = ~valid(array)
    if wrong.any():
        first = np.argwhere(wrong)[0]
        index = ", ".join(str(int(i)) for i in first)
        raise InvalidParameter(name, f"{rule}, got {array[tuple(first)]:g} at index {index}")
    return array


def _float_of(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(name, f"must be a number, got {value!r}") from error
