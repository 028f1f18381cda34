"""Collect garbage between ticks, not in them.

A tick at 10,000 services parses a hundred thousand small objects; the collector answers every few of
those with a pass over everything that lives, 60 % of the tick's time as measured. Almost nothing here
is cyclic, so reference counting frees it at once, and the little that is can wait for the gap.
"""

from __future__ import annotations

import gc

# A young pass walks over all that the last tick left alive, 0.2 s at 10,000 services, and frees nothing
# after a tick that wrote nothing. So it is made when so many young objects have stayed: each write and
# its watch event leave some 70, of which 24 are cyclic.
YOUNG_OBJECTS = 20_000
# A storm of events, as when every service shows its first decision, is not left to the tick's end: kopf's
# garbage holds the whole objects, 10,000 of them 90 MB.
YOUNG_AFTER_EVENTS = 500
FULL_EVERY_TICKS = 240  # an hour of 15 s ticks; a full pass takes about a second at 10,000 services


class GarbageCollection:
    """Takes the collector over; `between_ticks` is called when a tick has ended."""

    def __init__(self) -> None:
        self._ticks = 0
        gc.disable()

    def between_ticks(self) -> None:
        """Collect now and then what the last ticks left."""
        if self._ticks == 0:
            # What is there after the first tick stays: the modules, the cache, the specs.
            gc.collect()
            gc.freeze()
        elif self._ticks % FULL_EVERY_TICKS == 0:
            gc.collect()
        elif gc.get_count()[0] > YOUNG_OBJECTS:
            gc.collect(0)
        self._ticks += 1


def collect_after(events: int) -> None:
    """Collect young garbage when `events` is a multiple of 500; called after each watch event."""
    if events % YOUNG_AFTER_EVENTS == 0:
        gc.collect(0)
