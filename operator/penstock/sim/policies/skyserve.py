"""SkyServe: requests of the last minute over a rate for each replica; up after 300 s, down after 1200 s.

    target = ceil(requests in 60 s/60/target_qps_per_replica); a single opposite look resets the counter

Source: skypilot-org/skypilot sky/serve/autoscalers.py. target_qps_per_replica has no default: its
documentation says to measure it, so it is what the model says one replica carries.
"""

from __future__ import annotations

import math

from penstock.sim.policy_port import Signals

UP_SECONDS, DOWN_SECONDS, WINDOW_SECONDS = 300.0, 1200.0, 60.0


class SkyServe:
    """A service's request-rate autoscaler; `qps` is target_qps_per_replica (1/s)."""

    name = "SkyServe"
    interval_seconds = 20.0

    def __init__(self, *, qps: float) -> None:
        self._qps = qps
        self._up = self._down = 0

    def decide(self, seen: Signals) -> int:
        """Return the target of one look; the load balancer counts requests itself."""
        rate = seen.offered_rate_over(WINDOW_SECONDS)
        if rate is None:
            return seen.target
        wanted = min(max(math.ceil(rate / self._qps), seen.min_replicas), seen.max_replicas)
        self._up = self._up + 1 if wanted > seen.target else 0
        self._down = self._down + 1 if wanted < seen.target else 0
        if self._up >= UP_SECONDS / self.interval_seconds:
            self._up = 0
            return wanted
        if self._down >= DOWN_SECONDS / self.interval_seconds:
            self._down = 0
            return wanted
        return seen.target
