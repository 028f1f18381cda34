"""What the pods of each arm answered and failed: evidence that a rescue does not hide.

Envoy counts at the pod's entry of its cluster, whether the request came straight or through a composite:
``rq_error`` is a 5xx or an end before the first byte (refused, reset, timed out), and it is counted though
the other arm then answered. A stream that its pod cut later counts as answered there; connections that pods
closed with a request on them tell of it, and of those reset before the first byte once more. So

    server errors = max(sum rq_error, connections closed by pods with a request)

never counts one twice. Source: Envoy 1.40, measured (tests/dataplane/test_envoy_canary_behaviour.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.stats import Stats, in_flight
from penstock.model.traffic import ArmCount, RoutePlan

_STAT: Final = re.compile(
    r"cluster\.([^.]+)\.(?:endpoint\..+\.(rq_success|rq_error)|(upstream_cx_destroy_remote_with_active_rq))"
)


@dataclass(slots=True)
class ArmCounters:
    """Sums over proxies and pods by cluster, monotone while proxies and pods come and go.

    What was counted before the first look at a proxy is left out. Of a pod that leaves, the last second
    is lost.
    """

    _last: dict[str, dict[str, int]] = field(default_factory=dict)  # by proxy and statistic
    _sums: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, proxy: str, stats: Stats, clusters: Collection[str]) -> None:
        """Take in what one proxy shows of these clusters."""
        last, shown = self._last.get(proxy), {}
        for name, value in stats.items():
            found = _STAT.fullmatch(name)
            if found is None or found[1] not in clusters:
                continue
            shown[name] = value
            before = value if last is None else last.get(name, 0)
            # Below what it was: the process, or the pod's entry, began anew.
            self._sums[found[1], found[2] or found[3]] += value - before if value >= before else value
        self._last[proxy] = shown

    def forget(self, proxy: str) -> None:
        """Drop what a proxy showed last; the sums stay."""
        self._last.pop(proxy, None)

    def forget_all(self) -> None:
        """Drop what all proxies showed last: nobody looks for a while."""
        self._last.clear()

    def tells_of(self, proxies: Collection[str]) -> bool:
        """Whether one of these proxies was looked at: older ones do not have the path."""
        return any(proxy in self._last for proxy in proxies)

    def of(self, cluster: str, shown: Mapping[str, Stats]) -> ArmCount:
        """Return an arm's counts; `shown` are the statistics by proxy with the gauges of now."""
        answered, failed = self._sums[cluster, "rq_success"], self._sums[cluster, "rq_error"]
        cut = self._sums[cluster, "upstream_cx_destroy_remote_with_active_rq"]
        return ArmCount(
            requests=answered + failed,
            server_errors=max(failed, cut),
            in_flight=float(sum(in_flight(stats, [cluster]) for stats in shown.values())),
        )


def arms(
    plan: RoutePlan, shown: Mapping[str, Stats], counters: ArmCounters
) -> tuple[ArmCount, ArmCount] | None:
    """Return what the stable arm and the canary of a service show; None without canary, or nobody tells."""
    if plan.canary is None or not counters.tells_of(shown.keys()):
        return None
    return counters.of(names.cluster_name(plan.key), shown), counters.of(
        names.canary_cluster(plan.key), shown
    )
