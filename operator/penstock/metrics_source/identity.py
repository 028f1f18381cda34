"""How a series is told to belong to a service, and how often series are written.

By pod (default): queries group by (namespace, pod), the caller knows which pods a service has.
By service: queries group by (namespace, <service label>): one series instead of one per pod, and
quantiles are computed by the server; for fleets of thousands. Label names are those that the scrape
configuration attaches: a ServiceMonitor of the Prometheus operator writes namespace, pod, service.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from penstock.model.spec import ServiceKey, ServiceSpec

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# rate() needs two samples; with four intervals in the window one lost scrape and the jitter of the
# other two still leave two.
SCRAPES_PER_WINDOW = 4
SCRAPES_UNTIL_STALE = 4
PART_LABEL = "part"  # tells the branches of a union apart; only ever added by our own queries


class IdentifyBy(StrEnum):
    """Which labels name a service."""

    POD = "Pod"
    SERVICE = "Service"


@dataclass(frozen=True, slots=True)
class SeriesSettings:
    """Labels of the series and the times that depend on the scrape interval (seconds).

    `rate_window_seconds` defaults to 60 or, where that is longer, to 4 scrape intervals, and
    `stale_after_seconds` to 4 scrape intervals. `matchers` are exact label values added to every
    selector, those of users' own queries too: ``{"job": "vllm"}`` where pods are scraped twice,
    ``{"cluster": "prod-1"}`` where one Thanos or Mimir holds several clusters. Raises `ValueError`.
    """

    identify_by: IdentifyBy = IdentifyBy.POD
    namespace_label: str = "namespace"
    pod_label: str = "pod"
    service_label: str = "service"
    matchers: Mapping[str, str] = field(default_factory=dict)
    scrape_interval_seconds: float = 15.0
    rate_window_seconds: float = 0.0  # 0: derived
    stale_after_seconds: float = 0.0  # 0: derived
    length_window_seconds: float = 300.0
    length_shard_services: int = 500
    clock_skew_bound_seconds: float = 15.0

    def __post_init__(self) -> None:
        names = (self.namespace_label, self.pod_label, self.service_label)
        for name in (*names, *self.matchers):
            if not LABEL_NAME.fullmatch(name) or name in (PART_LABEL, "le", "__name__"):
                raise ValueError(
                    f"{name!r} cannot identify series: use a label name such as 'namespace' or 'pod'"
                )
        if not (math.isfinite(self.scrape_interval_seconds) and self.scrape_interval_seconds > 0):
            raise ValueError(f"the scrape interval must be positive, not {self.scrape_interval_seconds}")
        shortest = SCRAPES_PER_WINDOW * self.scrape_interval_seconds
        object.__setattr__(self, "rate_window_seconds", self.rate_window_seconds or max(60.0, shortest))
        if self.rate_window_seconds < shortest:
            raise ValueError(
                f"a rate window of {self.rate_window_seconds:g} s is shorter than {SCRAPES_PER_WINDOW} "
                f"scrape intervals of {self.scrape_interval_seconds:g} s: use at least {shortest:g} s"
            )
        stale = self.stale_after_seconds or SCRAPES_UNTIL_STALE * self.scrape_interval_seconds
        object.__setattr__(self, "stale_after_seconds", stale)

    @property
    def promql_matchers(self) -> tuple[str, ...]:
        """Return `matchers` as they stand inside a selector's braces."""
        return tuple(f"{label}={quoted(value)}" for label, value in self.matchers.items())


def quoted(text: str) -> str:
    """Quote a string for PromQL, whose escapes are those of JSON and more."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Watched:
    """A service to collect for, and where its series are.

    `pods` are the names of all its pods that may report, ready or draining (by pod; from
    EndpointSlices). `series_name` is the value of the service label (by service); empty: the name in
    `spec.service`, else the target's name.
    """

    spec: ServiceSpec
    pods: frozenset[str] = frozenset()
    series_name: str = ""

    @property
    def key(self) -> ServiceKey:
        """Identity of the service."""
        return self.spec.key

    @property
    def label_value(self) -> str:
        """Return the value of the service label that this service's series carry."""
        if self.series_name:
            return self.series_name
        return self.spec.service.name if self.spec.service else self.spec.target.name
