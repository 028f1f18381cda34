"""The operator's own metrics: of the process. Those of each service are in ``fleet_metrics.py``.

The list for users is docs/metrics.md, checked by a test.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from penstock import __version__
from penstock.model.canary_verdict import CanaryReason, VerdictKind
from penstock.model.decision import Reason, RolloutReason, TrafficReason

_TICK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


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
            "Duration of one tick: collect, decide, set targets",
            buckets=_TICK_BUCKETS,
            registry=registry,
        )
        self.targets_seconds = Histogram(
            "penstock_tick_targets_seconds",
            "From the beginning of a tick until every target is set",
            buckets=_TICK_BUCKETS,
            registry=registry,
        )
        self.tick_lag_seconds = Gauge(
            "penstock_tick_lag_seconds", "How late the last tick began", registry=registry
        )
        self.ticks = Counter("penstock_ticks", "Ticks by result", ["result"], registry=registry)
        self.decisions = Counter(
            "penstock_decisions",
            "Changes of reason; of replicas also of the number",
            ["kind", "reason"],
            registry=registry,
        )
        self.canary_verdicts = Counter(
            "penstock_canary_verdicts",
            "Verdicts on canaries, where they change",
            ["verdict"],
            registry=registry,
        )
        self.scale_writes = Counter(
            "penstock_scale_writes", "Writes to /scale", ["direction"], registry=registry
        )
        self.failed_steps = Counter(
            "penstock_failed_steps",
            "Looks at a service that a defect ended; the others go on",
            registry=registry,
        )
        self.statuses_waiting = Gauge(
            "penstock_statuses_waiting",
            "Services still to be looked at or shown when the next tick begins",
            registry=registry,
        )
        self.status_writes = Counter("penstock_status_writes", "Writes to status", registry=registry)
        self.events = Counter("penstock_events", "Events by reason", ["reason"], registry=registry)
        self.events_dropped = Counter(
            "penstock_events_dropped",
            "Events not written because too many waited, or at the end",
            ["reason"],
            registry=registry,
        )
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
        self.unread_objects = Gauge(
            "penstock_unread_objects",
            "Of the objects in the last listing those that a defect kept from being read",
            ["kind"],
            registry=registry,
        )
        self.cache_drift = Counter(
            "penstock_cache_drift", "Objects that a re-list found and the watch had missed", registry=registry
        )
        self.tables_pending = Gauge(
            "penstock_capacity_tables_pending", "Capacity tables being solved", registry=registry
        )
        self.records = Counter(
            "penstock_records", "Observations recorded with their decisions", registry=registry
        )
        self.records_lost = Counter(
            "penstock_records_lost",
            "Observations not recorded: the disk was behind, or a write failed",
            ["reason"],
            registry=registry,
        )
        # Known label values start at 0, so that rate() and alerts work from the first scrape.
        for reason in Reason:
            self.decisions.labels("replicas", reason.value)
        for kind in ("admission", "fallback"):
            for traffic_reason in TrafficReason:
                self.decisions.labels(kind, traffic_reason.value)
        for canary_reason in (*RolloutReason, *CanaryReason):
            self.decisions.labels("canary", canary_reason.value)
        for verdict in VerdictKind:
            self.canary_verdicts.labels(verdict.value)
        for result in ("ok", "failed"):
            self.ticks.labels(result)
        for lost in ("behind", "failed"):
            self.records_lost.labels(lost)
        for direction in ("up", "down"):
            self.scale_writes.labels(direction)
        for kind in ("timeout", "unavailable", "bad_query", "unauthorized", "too_large", "bad_response"):
            self.query_errors.labels(kind)
