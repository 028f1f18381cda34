"""How often the numbers in status are looked at: every minute, in a fleet whose numbers all move less often.

10,000 services that each show another p95 every minute would be 170 writes a second into etcd, all of them
in the tick that follows the start by a minute. So a tick writes some of them at most, by the time since the
one before; who is left out is first at the next one, and so everybody's turn comes.
"""

from __future__ import annotations

import math

from penstock.model.spec import ServiceKey
from penstock.model.status_change import NUMBERS_EVERY_SECONDS

MOST_PER_SECOND = 20
MOST_PER_TICK = 250


class StatusPace:
    """Spreads the writes of status that only refresh numbers; services are asked in the same order."""

    def __init__(self, most_per_tick: int = MOST_PER_TICK) -> None:
        self._most = most_per_tick
        self._left = most_per_tick
        self._tick_at = -math.inf
        self._resume_at: ServiceKey | None = None  # left out first in the last tick: nobody is before it
        self._left_out: ServiceKey | None = None

    def is_due(self, key: ServiceKey, shown_at: float, now: float) -> bool:
        """Whether numbers shown at `shown_at` may be looked at in the tick of `now` (Unix seconds)."""
        if now != self._tick_at:
            self._left = math.ceil(min(self._most, MOST_PER_SECOND * (now - self._tick_at)))
            self._tick_at = now
            self._resume_at, self._left_out = self._left_out, None
        if self._resume_at is not None and self._resume_at == key:
            self._resume_at = None
        if now - shown_at < NUMBERS_EVERY_SECONDS or self._resume_at is not None:
            return False
        if self._left <= 0:
            self._left_out = self._left_out or key
            return False
        return True

    def spend(self) -> None:
        """Count a write of this tick."""
        self._left -= 1
