"""How often the numbers in status are looked at: every minute, in a fleet whose numbers all move less often.

10,000 services that each show another p95 every minute would be 170 writes a second into etcd, all of them
in the tick that follows the start by a minute. So a tick writes some of them at most, and while that was
not enough the time between two looks at one service grows.
"""

from __future__ import annotations

import math

from penstock.model.status_change import NUMBERS_EVERY_SECONDS

MOST_PER_TICK = 250
LONGEST_SECONDS = 600.0
SLOWER, FASTER = 1.2, 0.95  # at most doubles within four ticks, and is back within fourteen


class StatusPace:
    """Spreads the writes of status that only refresh numbers."""

    def __init__(self, most_per_tick: int = MOST_PER_TICK) -> None:
        self._most = most_per_tick
        self._left = most_per_tick
        self._refused = False
        self._tick_at = -math.inf
        self.every_seconds = NUMBERS_EVERY_SECONDS

    def is_due(self, shown_at: float, now: float) -> bool:
        """Whether numbers shown at `shown_at` may be looked at in the tick of `now` (Unix seconds)."""
        if now != self._tick_at:
            self._begin(now)
        if now - shown_at < self.every_seconds:
            return False
        if self._left <= 0:
            self._refused = True
            return False
        return True

    def spend(self) -> None:
        """Count a write of this tick."""
        self._left -= 1

    def _begin(self, now: float) -> None:
        factor = SLOWER if self._refused else FASTER
        self.every_seconds = min(LONGEST_SECONDS, max(NUMBERS_EVERY_SECONDS, self.every_seconds * factor))
        self._tick_at, self._left, self._refused = now, self._most, False
