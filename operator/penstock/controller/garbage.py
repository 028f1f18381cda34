"""Collect garbage between ticks, not in them.

A tick at 10,000 services parses a hundred thousand small objects; the collector answers every few of
those with a pass over everything that lives, 60 % of the tick's time as measured. Almost nothing here
is cyclic, so reference counting frees it at once, and the little that is can wait for the gap.
"""

from __future__ import annotations

import gc

# A young pass walks over all that the last tick left alive, 0.2 s at 10,000 services, and frees nothing
# after a tick that wrote nothing. So it is made when so many young objects have stayed: a write and its
# watch event leave some 70, of which kopf ties 24 into cycles that hold the whole object, 10 KB.
YOUNG_OBJECTS = 100_000
# A storm of 10,000 events, as when every service shows its first decision, cannot wait for the tick's end:
# 90 MB. The hundreds of a tick that scales 1 % of them can, and must: a pass makes it 0.2 s longer.
STORM_OBJECTS = 300_000
LOOK_EVERY_EVENTS = 100
FULL_EVERY_TICKS = 240  # an hour of 15 s ticks; a full pass takes about a second at 10,000 services


class GarbageCollection:
    """Takes the collector over; `between_ticks` is called when a tick has ended."""

    def __init__(self) -> None:
        self._ticks = 0
        self._frozen = False
        gc.disable()

    def between_ticks(self, *, backlog: int) -> None:
        """Collect now and then what ticks left; `backlog` services were still to be begun with or shown."""
        if not self._frozen and self._ticks > 0 and backlog == 0:
            # What is there once the first statuses are written stays: the modules, the cache, the specs.
            # Earlier, events under way would be frozen as well, and with them the cycles that kopf ties.
            self._frozen = True
            gc.collect()
            gc.freeze()
        elif self._ticks % FULL_EVERY_TICKS == FULL_EVERY_TICKS - 1:
            gc.collect()
        elif gc.get_count()[0] > YOUNG_OBJECTS:
            gc.collect(0)
        self._ticks += 1


def collect_after(events: int) -> None:
    """Collect young garbage in the midst of a storm of watch events; called after each of them."""
    if events % LOOK_EVERY_EVENTS == 0 and gc.get_count()[0] > STORM_OBJECTS:
        gc.collect(0)
