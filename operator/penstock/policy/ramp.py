"""A limit on its way: down at once, up by at most a tenth a second.

Streams finish slowly: slots that are given out too fast cannot be taken back before the streams in
them end, and what was held up outside comes in one burst. What protects (lowering) never waits.
"""

from __future__ import annotations

import math

from penstock.model.traffic import FleetLimit

RISE_PER_SECOND = 0.10  # of what is in force, or one request where that is more
SMALLEST_STEP = 0.05  # smaller ones are not worth telling every gateway, unless they arrive
# A task that was held up for a minute must not then make up for it in one jump.
LONGEST_SECONDS = 2.0


def ramp(in_force: FleetLimit | None, target: FleetLimit | None, elapsed_seconds: float) -> FleetLimit | None:
    """Return the limit to put in force now; call it about once a second.

    `elapsed_seconds` is the time since the last call. None lets everything pass, and both beginning
    and ending to limit take effect at once.
    """
    if in_force is None or target is None:
        return target
    running, queued = min(in_force.running, target.running), min(in_force.queued, target.queued)
    missing = FleetLimit(target.running - running, target.queued - queued)
    if missing.in_flight == 0:
        return target
    seconds = min(max(elapsed_seconds, 0.0), LONGEST_SECONDS)
    # Rounded, not cut: a task that wakes after 0.98 s must still raise a limit of 5 by one.
    allowed = round(max(1.0, RISE_PER_SECOND * in_force.in_flight) * seconds)
    if allowed >= missing.in_flight:
        return target
    if allowed < max(1.0, SMALLEST_STEP * in_force.in_flight):
        return FleetLimit(running, queued)
    more_running = math.ceil(allowed * missing.running / missing.in_flight)
    return FleetLimit(running + more_running, queued + allowed - more_running)
