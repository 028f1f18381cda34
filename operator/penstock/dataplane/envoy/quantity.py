"""Kubernetes quantities, ``512Mi`` or ``1e9``, as numbers of bytes."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:([eE][+-]?[0-9]{1,2})|([KMGTPE]i|[mkMGTPE]))?")
_DECIMAL: Final = {suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)}
_BINARY: Final = {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
_SUFFIXES: Final = _DECIMAL | _BINARY | {"m": Decimal("0.001")}


def bytes_of(quantity: object) -> int:
    """Return the bytes of a quantity as written in a manifest. Raises ValueError when it is none."""
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity: write for example 512Mi")
    number, exponent, suffix = found.groups()
    return int(Decimal(number + (exponent or "")) * _SUFFIXES.get(suffix, 1))
