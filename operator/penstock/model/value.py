"""Frozen dataclasses that are made by the hundred thousand: the type checker keeps them frozen.

At run time the guard of ``frozen=True`` makes each field 5 times as dear to set (8 fields: 0.9 instead of
0.2 microseconds), 0.1 s of a tick at 10,000 services. mypy sees the ordinary decorator and refuses every
assignment; the tests run with the guard on, by ``PENSTOCK_FROZEN_VALUES``.

    @value(frozen=True, slots=True)
    class Reading: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool, slots: bool) -> Callable[[type], type]:
        """Return the decorator of a value type; both arguments are there for the reader and mypy."""
        if os.environ.get("PENSTOCK_FROZEN_VALUES"):
            return dataclass(frozen=frozen, slots=slots)
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["value"]
