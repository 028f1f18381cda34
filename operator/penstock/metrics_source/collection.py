"""Pausing Python's garbage collection while many objects are made at once.

Answers of 10,000 services are 400,000 dicts and strings a tick without a cycle among them, but every 700
allocations start a collection, and some of those walk the whole heap: measured 0.87 s of CPU a tick with it,
0.38 s without.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause garbage collection; for synchronous code only. Nested or concurrent use ends with it on."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
