"""A wall clock that is set while the operator runs: what is remembered is of another time then.

Rates, windows and ages go by the wall clock, because Prometheus and the API server do. After an hour ahead
and back nothing measured is newer than what is remembered, and nothing is learned for an hour. A new process
finds all of it again, in the cluster and in Prometheus.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import NoReturn

JUMP_SECONDS = 30.0  # less is waited for: no window is shorter than that
LOOK_SECONDS = 1.0


class ClockJumpedError(Exception):
    """The wall clock was set; the message says how far."""


def since_boot() -> float:
    """Return seconds that nobody can set; a machine that sleeps passes them too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


async def until_clock_jumps(
    wall: Callable[[], float] = time.time, steady: Callable[[], float] = since_boot
) -> NoReturn:
    """Watch the wall clock; raise `ClockJumpedError` when it was set. Slewing is no jump."""
    ahead = wall() - steady()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        before, ahead = ahead, wall() - steady()
        if abs(ahead - before) > JUMP_SECONDS:
            where = "ahead" if ahead > before else "back"
            raise ClockJumpedError(
                f"the clock of this machine was set {abs(ahead - before):.0f} s {where}; what was learned "
                "goes by it, and is read again after a restart"
            )
