"""The operator's own metrics.

Counters and histograms of the process are ordinary prometheus-client objects. What belongs to one
service is read from the fleet when Prometheus scrapes (a custom collector): setting 10 gauges for
each of 10,000 services at every tick would cost 0.1 s of each tick, and series of deleted services
disappear by themselves. The list for users is docs/metrics.md, checked by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock import __version__
from penstock.model.decision import Reason


@dataclass(frozen=True, slots=True)
class ServiceSample:
    """What is exposed of one service; None where there is no value (no series then, never zero)."""

    namespace: str
    name: str
    reason: str
    desired_replicas: float | None = None
    target_replicas: float | None = None
    ready_replicas: float | None = None
    stuck_replicas: float | None = None
    offered_per_second: float | None = None
    bound_per_second: float | None = None
    utilization_ratio: float | None = None
    queue_depth: float | None = None
    lead_seconds: float | None = None
    speed_ratio: float | None = None
    cost_per_hour: float | None = None
    measured_seconds: Mapping[str, float] = field(default_factory=dict)
    objective_seconds: Mapping[str, float] = field(default_factory=dict)


_GAUGES = {
    "desired_replicas": "Replicas Penstock wants, also in mode Observe",
    "target_replicas": "Replicas the target is set to (spec.replicas)",
    "ready_replicas": "Replicas of the target that are ready",
    "stuck_replicas": "Replicas that will not come by waiting: unschedulable, crash looping, image missing",
    "offered_per_second": "Offered load in requests per second",
    "bound_per_second": "Rate that is sized for: the bound of the offered load over the lead time",
    "utilization_ratio": "Offered load divided by what the ready replicas carry at saturation",
    "queue_depth": "Requests that wait in the engines' queues",
    "lead_seconds": "Time planned ahead: from a scale-up to ready",
    "speed_ratio": "Measured step time divided by the profile's: above 1 is a slower engine",
    "cost_per_hour": "Cost of the replicas in force per hour, in the currency of spec.cost",
}


class FleetCollector(Collector):
    """Reads the samples of all services at the moment of a scrape."""

    def __init__(self, samples: Callable[[], Iterable[ServiceSample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield one family per gauge."""
        labels = ["namespace", "name"]
        families = {
            name: GaugeMetricFamily(f"penstock_service_{name}", help_text, labels=labels)
            for name, help_text in _GAUGES.items()
        }
        decision = GaugeMetricFamily(
            "penstock_service_decision", "1 for the reason in force", labels=[*labels, "reason"]
        )
        measured = GaugeMetricFamily(
            "penstock_service_measured_seconds", "Measured percentile", labels=[*labels, "objective"]
        )
        objective = GaugeMetricFamily(
            "penstock_service_objective_seconds", "Objective of the percentile", labels=[*labels, "objective"]
        )
        for sample in self._samples():
            key = [sample.namespace, sample.name]
            for name, family in families.items():
                value = getattr(sample, name)
                if value is not None:
                    family.add_metric(key, value)
            if sample.reason:
                decision.add_metric([*key, sample.reason], 1.0)
            for which, seconds in sample.measured_seconds.items():
                measured.add_metric([*key, which], seconds)
            for which, seconds in sample.objective_seconds.items():
                objective.add_metric([*key, which], seconds)
        yield from families.values()
        yield decision
        yield measured
        yield objective

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the fleet need not exist yet when the collector is registered."""
        return iter(())


class OperatorMetrics:
    """Counters and histograms of one operator process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        info = Gauge("penstock_build_info", "1; the version is a label", ["version"], registry=registry)
        info.labels(__version__).set(1)
        self.leader = Gauge("penstock_leader", "1 while this replica holds the Lease", registry=registry)
        self.tick_seconds = Histogram(
            "penstock_tick_duration_seconds",
            "Duration of one tick: collect, decide, apply",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=registry,
        )
        self.tick_lag_seconds = Gauge(
            "penstock_tick_lag_seconds", "How late the last tick began", registry=registry
        )
        self.ticks = Counter("penstock_ticks", "Ticks by result", ["result"], registry=registry)
        self.decisions = Counter(
            "penstock_decisions", "Changes of value or reason", ["kind", "reason"], registry=registry
        )
        self.scale_writes = Counter(
            "penstock_scale_writes", "Writes to /scale", ["direction"], registry=registry
        )
        self.status_writes = Counter("penstock_status_writes", "Writes to status", registry=registry)
        self.events = Counter("penstock_events", "Events by reason", ["reason"], registry=registry)
        self.api_requests = Counter(
            "penstock_api_requests",
            "Kubernetes API requests",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self.query_seconds = Histogram(
            "penstock_prometheus_query_duration_seconds",
            "Duration of Prometheus queries",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=registry,
        )
        self.query_errors = Counter(
            "penstock_prometheus_query_errors", "Failed Prometheus queries", ["kind"], registry=registry
        )
        self.cache_objects = Gauge(
            "penstock_cache_objects", "Objects in the cache", ["kind"], registry=registry
        )
        self.cache_drift = Counter(
            "penstock_cache_drift", "Objects that a re-list found and the watch had missed", registry=registry
        )
        self.tables_pending = Gauge(
            "penstock_capacity_tables_pending", "Capacity tables being solved", registry=registry
        )
        # Known label values start at 0, so that rate() and alerts work from the first scrape.
        for reason in Reason:
            self.decisions.labels("replicas", reason.value)
        for result in ("ok", "failed"):
            self.ticks.labels(result)
        for direction in ("up", "down"):
            self.scale_writes.labels(direction)
        for kind in ("timeout", "unavailable", "bad_data", "unauthorized", "too_large", "malformed"):
            self.query_errors.labels(kind)

    def expose_fleet(self, samples: Callable[[], Iterable[ServiceSample]]) -> None:
        """Register the fleet's gauges; `samples` is called at every scrape."""
        self.registry.register(FleetCollector(samples))
