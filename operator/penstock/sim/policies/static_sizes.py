"""Fixed counts by the model: for the busiest minute of the trace, and for its mean rate."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.sim.policies.sizing import table_of, true_rates
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Scenario

MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NamedStatic:
    """A fixed count with a reason for it."""

    name: str
    replicas: int
    interval_seconds: float = 60.0

    def decide(self, seen: Signals) -> int:
        """Return the count, whatever was seen."""
        return self.replicas


def static_peak(scenario: Scenario, *, percentile: float = 0.95, ratio: float = 1.0) -> NamedStatic:
    """Return the fewest replicas that carry `ratio` times the busiest minute within the objectives."""
    rates = true_rates(scenario, window_seconds=MINUTE_SECONDS, step_seconds=MINUTE_SECONDS / 4)
    return _sized("static peak", scenario, ratio * float(rates.max()), percentile)


def static_mean(scenario: Scenario, *, percentile: float = 0.95, ratio: float = 1.0) -> NamedStatic:
    """Return the fewest replicas that carry `ratio` times the mean rate within the objectives."""
    end = scenario.end_seconds or float(scenario.arrivals_seconds[-1])
    return _sized("static mean", scenario, ratio * scenario.arrivals_seconds.size / end, percentile)


def _sized(name: str, scenario: Scenario, rate: float, percentile: float) -> NamedStatic:
    needed = table_of(scenario, percentile=percentile).replicas_for(rate)
    return NamedStatic(name, min(max(needed, scenario.min_replicas), scenario.max_replicas))
