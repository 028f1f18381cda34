"""What a proxy's statistics say of each service: gauges of now, and counters that survive its restarts.

Read every second from the listener that shows statistics and nothing else; bounded in time and size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from penstock.dataplane.envoy import names
from penstock.model.spec import ServiceKey
from penstock.model.traffic import ClassCount, Endpoint, GatewayReading, RoutePlan, RouteState

Stats = Mapping[str, int]
_LONGEST_VALUE: Final = 20  # digits of 2^64 - 1, the largest that Envoy counts to


@dataclass(frozen=True, slots=True)
class Look:
    """The statistics of one proxy at a time (monotonic seconds), and those of the look before."""

    at: float
    stats: Stats
    before: Stats = field(default_factory=dict)

    def rose(self, counters: Iterable[str]) -> bool:
        """Whether one of these counters is above what it was at the look before."""
        return any(self.stats.get(name, 0) > self.before.get(name, 0) for name in counters)


class Silence(Enum):
    """Why there is no recent look at a proxy."""

    LATE = auto()  # it did not answer, or is new
    LOST = auto()  # nor did it give another sign of life when it was asked for one


def parse_stats(text: str) -> dict[str, int]:
    """Return the values of ``name: value`` lines; lines of another form (histograms) are left out.

    Nothing that a proxy says may raise: "²" is a digit that `int` refuses, as it does 5,000 digits, and
    400 are more than a float holds.
    """
    found = {}
    for line in text.splitlines():
        name, mark, value = line.rpartition(": ")
        if mark and len(value) <= _LONGEST_VALUE and value.isascii() and value.isdigit():
            found[name] = int(value)
    return found


@dataclass(slots=True)
class Counters:
    """Sums of counters over all proxies, monotone while proxies come, go and restart.

    What a proxy had counted before we knew it is nobody's: it counts from the first look on, unless it was
    born under our eyes.
    """

    _last: dict[str, dict[str, int]] = field(default_factory=dict)  # by proxy and name
    _sums: dict[str, float] = field(default_factory=dict)

    def born(self, proxy: str) -> None:
        """Note a proxy that has counted nothing yet."""
        self._last[proxy] = {}

    def add(self, proxy: str, stats: Stats, wanted: Iterable[str]) -> None:
        """Take in what one proxy shows of the wanted counters."""
        is_known = proxy in self._last
        last = self._last.setdefault(proxy, {})
        for name in wanted:
            value = stats.get(name)
            if value is None:
                continue
            before = last.get(name, 0) if is_known else value
            # Below what it was: the process, or the cluster, began anew.
            self._sums[name] = self._sums.get(name, 0.0) + (value - before if value >= before else value)
            last[name] = value

    def forget(self, proxy: str) -> None:
        """Drop what a proxy that is gone showed last; the sums stay."""
        self._last.pop(proxy, None)

    def of(self, name: str) -> float:
        """Return a sum; 0 for what no proxy has shown."""
        return self._sums.get(name, 0.0)


def wanted_counters(plan: RoutePlan) -> list[str]:
    """Return the counters that a service's reading is made of."""
    classes = names.request_classes(plan)
    found = [f"http.{names.cluster_name(plan.key)}.downstream_rq_5xx"]
    for name in classes:
        found += [names.offered_stat(plan, name), names.shed_stat(plan.key, name)]
    found += [names.spilled_stat(plan.key, name) for name in names.classes_that_may_spill(plan)]
    return found


def in_flight(stats: Stats, clusters: Sequence[str]) -> int:
    """Return running and waiting requests of some clusters of one proxy."""
    return sum(
        stats.get(f"cluster.{each}.upstream_rq_active", 0)
        + stats.get(f"cluster.{each}.upstream_rq_pending_active", 0)
        for each in clusters
    )


def refused_updates(stats: Stats, kind: str, name: str) -> int | None:
    """Return how many updates of a resource Envoy counts as refused; None where it does not tell."""
    counters = {
        names.CDS: "cluster_manager.cds.update_rejected",
        names.LDS: "listener_manager.lds.update_rejected",
        names.RDS: f"http.{name}.rds.{name}.update_rejected",
        names.RTDS: "runtime.load_error",
    }
    return stats.get(counters.get(kind, ""))


def tells_of(stats: Stats, plan: RoutePlan) -> bool:
    """Whether a proxy has the service: one that does not have it yet counts nothing, which is not zero."""
    return f"cluster.{names.cluster_name(plan.key)}.upstream_rq_active" in stats


def reading(
    state: RouteState,
    shown: Mapping[str, Stats],
    counters: Counters,
    pools: Mapping[ServiceKey, tuple[str, ...]],
    at: float,
) -> GatewayReading:
    """Return what the proxies (by id) in `shown` say of one service."""
    plan = state.plan
    own = pools[plan.key]
    spills = [names.spill_cluster(plan.key, each) for each in names.classes_that_may_spill(plan)]
    classes = {
        name: ClassCount(
            offered=counters.of(names.offered_stat(plan, name)),
            shed=counters.of(names.shed_stat(plan.key, name)),
            spilled=counters.of(names.spilled_stat(plan.key, name)),
        )
        for name in names.request_classes(plan)
    }
    return GatewayReading(
        at=at,
        proxies=len(shown),
        in_flight=float(sum(in_flight(stats, own) for stats in shown.values())),
        waiting=float(
            sum(
                stats.get(f"cluster.{each}.upstream_rq_pending_active", 0)
                for stats in shown.values()
                for each in own
            )
        ),
        spilled_in_flight=float(sum(in_flight(stats, spills) for stats in shown.values())),
        server_errors=counters.of(f"http.{names.cluster_name(plan.key)}.downstream_rq_5xx"),
        classes=classes,
        by_pod=_by_pod((*state.endpoints, *state.canary_endpoints), shown, own),
    )


def _by_pod(
    endpoints: Sequence[Endpoint], shown: Mapping[str, Stats], clusters: Sequence[str]
) -> dict[str, float]:
    """Return requests in flight per pod; a pod that no proxy lists has none."""
    return {
        each.pod: float(
            sum(
                stats.get(f"cluster.{cluster}.endpoint.{_stat_address(each)}.rq_active", 0)
                for stats in shown.values()
                for cluster in clusters
            )
        )
        for each in endpoints
    }


def _stat_address(endpoint: Endpoint) -> str:
    # Envoy writes colons in statistics as underscores.
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.port}".replace(":", "_")
