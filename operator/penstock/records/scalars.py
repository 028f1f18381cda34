"""Single values of a record: numbers, text, arrays of numbers; each refusal names the field."""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from penstock.records.fault import RecordFault

NOT_IN_JSON = {"+Inf": math.inf, "-Inf": -math.inf, "NaN": math.nan}
# The largest array remembered has 1,000 entries; a line must not be able to ask for all memory.
_MOST_BYTES = 1 << 20


def from_float(value: float) -> float | str:
    """Return a number, or the name of one that JSON does not have."""
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("+Inf" if number > 0 else "-Inf")


def number(plain: Any, path: str) -> float:
    """Return a finite number."""
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise RecordFault(path, f"{plain!r} is not a number")
    return float(plain)


def any_number(plain: Any, path: str) -> float:
    """Return a number that may be infinite or NaN by name."""
    if isinstance(plain, str) and plain in NOT_IN_JSON:
        return NOT_IN_JSON[plain]
    return number(plain, path)


def whole(plain: Any, path: str) -> int:
    """Return a whole number."""
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise RecordFault(path, f"{plain!r} is not a whole number")
    return plain


def text(plain: Any, path: str) -> str:
    """Return a string."""
    if not isinstance(plain, str):
        raise RecordFault(path, f"{plain!r} is not text")
    return plain


def truth(plain: Any, path: str) -> bool:
    """Return true or false."""
    if not isinstance(plain, bool):
        raise RecordFault(path, f"{plain!r} is neither true nor false")
    return plain


def mapping(plain: Any, path: str) -> Mapping[str, Any]:
    """Return an object."""
    if not isinstance(plain, dict):
        raise RecordFault(path, f"{_short(plain)} instead of an object")
    return plain


def array(plain: Any, path: str) -> list[Any]:
    """Return a list."""
    if not isinstance(plain, list):
        raise RecordFault(path, f"{_short(plain)} instead of a list")
    return plain


def to_number_key(name: str, path: str) -> float:
    """Return the number that a key stands for."""
    try:
        return float(name)
    except ValueError:
        raise RecordFault(path, f"the key {name!r} is not a number") from None


def refuse_unknown(found: Mapping[str, Any], known: Collection[str], path: str) -> None:
    """Refuse names that nothing reads: a slip of the pen would pass for a missing signal."""
    for name in found:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise RecordFault(f"{path}.{name}" if path else name, f"unknown field; {meant}")


def require(found: Mapping[str, Any], needed: Collection[str], path: str) -> None:
    """Refuse an object that lacks a field."""
    missing = sorted(name for name in needed if name not in found)
    if missing:
        raise RecordFault(path, f"{', '.join(missing)} missing")


def from_array(values: np.ndarray[Any, Any]) -> Mapping[str, Any]:
    """Return an array as compressed bytes in the order of C, little-endian."""
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    packed = base64.b64encode(zlib.compress(plain.tobytes(), 1)).decode()
    return {"dtype": plain.dtype.str, "shape": list(plain.shape), "zlib": packed}


def to_array(plain: Any, path: str) -> np.ndarray[Any, Any]:
    """Return the array."""
    found = mapping(plain, path)
    try:
        kind = np.dtype(text(found["dtype"], path))
        shape = tuple(whole(each, path) for each in found["shape"])
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(base64.b64decode(found["zlib"], validate=True), _MOST_BYTES)
        if kind.kind != "f" or len(content) != math.prod(shape) * kind.itemsize:
            raise RecordFault(path, "its bytes do not fill its shape with floats")
        return np.frombuffer(content, kind).reshape(shape).astype(kind.newbyteorder("="))
    except (KeyError, TypeError, ValueError, zlib.error, binascii.Error) as error:
        raise (
            error if isinstance(error, RecordFault) else RecordFault(path, f"not an array: {error}")
        ) from error


def _short(plain: Any) -> str:
    return "null" if plain is None else repr(plain)[:40]


# A numpy scalar becomes Python's.
WRITERS: Mapping[Any, Callable[[Any], Any]] = {float: from_float, int: int, str: str, bool: bool}
READERS: Mapping[Any, Callable[[Any, str], Any]] = {
    float: any_number,
    int: whole,
    str: text,
    bool: truth,
}
