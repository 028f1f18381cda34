"""KEDA's Prometheus scaler: totals as external metrics of an HPA, an AverageValue each, the highest wins.

An empty answer counts as zero (ignoreNullValues, the default); a Prometheus that does not answer is an
error, and without a fallback the HPA keeps what it has. Source: kedacore/keda
pkg/scalers/prometheus_scaler.go, pkg/fallback/fallback.go. Above one replica pollingInterval and
cooldownPeriod do nothing: the HPA asks every 15 s. Presets: the queue and the running requests of llm-d's
guide (with its guard against counting pods that start twice), and what vLLM's production stack writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.sim.policies.hpa_law import SYNC_SECONDS, Behavior, Pace, Stabilizer, average_value
from penstock.sim.policy_port import Signals

STACK_BEHAVIOR = Behavior(up=Pace(1, None, 60.0, 0.0), down=Pace(1, None, 60.0, 300.0))
EPP_BEHAVIOR = Behavior(up=Pace(None, 100.0, 15.0, 0.0), down=Pace(None, 100.0, 15.0, 300.0))


def totals(seen: Signals) -> Mapping[str, float] | None:
    """Return what the queries answer, null as zero; None while Prometheus does not answer."""
    if seen.counters is None and not seen.replicas and seen.offered_rate is None and seen.at > 0:
        return None
    return {
        "queue": float(seen.waiting or 0),
        "running": float(seen.running or 0),
        "concurrency": float((seen.running or 0) + (seen.waiting or 0)),
        "kv": sum(each.kv_usage_ratio for each in seen.replicas),
        "prompt_tokens": seen.input_token_rate or 0.0,
        "generation_tokens": seen.output_token_rate or 0.0,
    }


class Keda:
    """A ScaledObject with `thresholds` by query (see `totals`)."""

    interval_seconds = SYNC_SECONDS

    def __init__(self, name: str, thresholds: Mapping[str, float], behavior: Behavior | None = None) -> None:
        self.name = name
        self._thresholds = thresholds
        self._stabilizer = Stabilizer(behavior or Behavior())

    def decide(self, seen: Signals) -> int:
        """Return the target after one sync of its HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        values = totals(seen)
        if values is None:
            return seen.target
        wanted = max(
            average_value(values[query], threshold, seen.target)
            for query, threshold in self._thresholds.items()
        )
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)


class KedaEpp:
    """llm-d's guide: the gateway's queue and running requests, less what already starts.

    D = max(queue/1, running/16); D while D <= n, else max(D - starting, n); an AverageValue of 1.
    The guide's pool saturation (0.7) is its other signal, not a third: the guard is not made for a ratio.
    """

    name = "KEDA llm-d"
    interval_seconds = SYNC_SECONDS

    def __init__(self, *, running: float = 16.0, queue: float = 1.0) -> None:
        self._running, self._queue = running, queue
        self._stabilizer = Stabilizer(EPP_BEHAVIOR)

    def decide(self, seen: Signals) -> int:
        """Return the target after one sync of its HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        values = totals(seen)
        if values is None:
            return seen.target
        demand = max(values["queue"] / self._queue, values["running"] / self._running)
        asked = demand if demand <= seen.target else max(demand - seen.starting, seen.target)
        wanted = average_value(asked, 1.0, seen.target)
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)
