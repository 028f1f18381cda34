"""The lower bound: our model fed with the true rate of the lead time, the future included.

    n(t) = max over [t, t + start-up] of N(true rate), N from the capacity table of the true lengths

It orders exactly a start-up ahead and lets go at once. Rates are those of a minute around each instant, in
requests of mean weight: bursts shorter than that no count of replicas follows, `ratio` above 1 leaves room
for them.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.sim.policies.sizing import highest_ahead, table_of, true_rates
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Scenario

STEP_SECONDS, WINDOW_SECONDS = 15.0, 60.0


class Clairvoyant:
    """Knows the trace. Not a policy anybody can run."""

    name = "clairvoyant"
    interval_seconds = STEP_SECONDS

    def __init__(self, scenario: Scenario, *, percentile: float = 0.95, ratio: float = 1.0) -> None:
        table = table_of(scenario, percentile=percentile)
        rates = true_rates(scenario, window_seconds=WINDOW_SECONDS, step_seconds=STEP_SECONDS)
        start_up = scenario.start_up
        longest = start_up.p90_seconds or start_up.median_seconds
        # Beyond the end there is nothing to look ahead to, however long a start takes.
        ahead = min(math.ceil(longest / STEP_SECONDS) + 1, rates.size)
        needed = np.array([table.replicas_for(rate) for rate in (ratio * rates).tolist()])
        self._wanted = highest_ahead(needed, ahead)

    def decide(self, seen: Signals) -> int:
        """Return what the next start-up time will need."""
        return int(self._wanted[min(round(seen.at / STEP_SECONDS), self._wanted.size - 1)])
