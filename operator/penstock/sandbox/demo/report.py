"""What came of the demo: figures by phase as clients saw them, and a verdict that may be believed.

Percentiles are over all requests of a phase that were answered, by whichever model, from when each was
due. A 429 is neither an answer nor a failure: it is counted apart. The verdict is on the whole run, because
an SLO is about a period and not about its best part; and none is given when this machine, not the
engines, decided the latencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.dataplane.envoy.names import REASON_ERROR, REASON_OVERLOAD
from penstock.engine.lag import MAX_LAG_RATIO
from penstock.engine.load_generator import LoadResult
from penstock.engine.load_report import Trust
from penstock.engine.stream_client import OK, RequestRecord
from penstock.sandbox.demo.scene import Scene
from penstock.sandbox.demo.usage import ReplicaUse

# A generator that is late by more adds to every TTFT; 100 ms is a tenth of the demo's objective.
MAX_SEND_LAG_SECONDS = 0.1
SHED = "http 429"


@dataclass(frozen=True, slots=True)
class Row:
    """One phase, or the whole run. Times in seconds; None where nothing was answered."""

    name: str
    offered_per_second: float
    requests: int
    failed: int
    by_fallback: int  # answered by the small model
    shed: int  # 429
    replicas: tuple[int, int, int]  # ready: fewest, most, at the end
    ttft_p95_seconds: float | None
    within_ratio: float | None  # of the requests answered

    @property
    def answered(self) -> int:
        """Requests that got their whole answer."""
        return self.requests - self.failed - self.shed


@dataclass(frozen=True, slots=True)
class Relief:
    """When the limit sent requests to the small model or away with a 429, in seconds after the step."""

    first_seconds: float
    last_seconds: float


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The outcome; `objection` says why the figures describe this machine, empty when they do not."""

    phases: tuple[Row, ...]
    total: Row
    objective_seconds: float
    used_replica_seconds: float
    peak_replicas: int
    load_seconds: float
    objection: str
    engine_lag_ratio: float | None
    scaled_up: bool
    errors: tuple[tuple[str, int], ...] = ()  # of the failed requests, the most frequent first
    fallback_name: str = ""  # empty: the scene has no gateway
    relief: Relief | None = None  # None: everything was let in

    @property
    def static_replica_seconds(self) -> float:
        """Replica-seconds of a fleet that always has the peak's replicas."""
        return self.peak_replicas * self.load_seconds

    @property
    def held(self) -> bool:
        """Whether the objective held over the whole run."""
        measured = self.total.ttft_p95_seconds
        return measured is not None and measured <= self.objective_seconds and not self.total.failed

    @property
    def failure(self) -> str:
        """Say what did not go as it must; empty when all did."""
        if self.objection:
            return f"no verdict: {self.objection}"
        if self.total.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.errors)
            return f"{self.total.failed} of {self.total.requests} requests failed ({kinds})"
        if self.total.ttft_p95_seconds is None:
            return "no request was answered"
        if not self.held:
            return (
                f"the objective was missed: p95 TTFT {self.total.ttft_p95_seconds:.2f} s over the whole "
                f"run, {self.objective_seconds:g} s asked for"
            )
        if not self.scaled_up:
            return "the operator did not add a replica after the step"
        return self._failure_of_the_gateway()

    def _failure_of_the_gateway(self) -> str:
        """Say what the gateway did not show; nothing where there is none."""
        if not self.fallback_name:
            return f"{self.total.shed} requests got a 429 without a gateway" if self.total.shed else ""
        if not self.total.by_fallback:
            return f"{self.fallback_name} answered nothing: the load never reached the limit"
        last = self.phases[-1]
        if last.by_fallback or last.shed:
            return (
                f"after the overload {last.by_fallback} requests still went to {self.fallback_name} and "
                f"{last.shed} got a 429"
            )
        return ""


def build_report(scene: Scene, result: LoadResult, use: ReplicaUse) -> DemoReport:
    """Return the outcome of a load that ran to its end."""
    rows, begin = [], 0.0
    for position, phase in enumerate(scene.phases):
        records = [r for r in result.records if scene.phase_at(r.planned.at_seconds) == position]
        rows.append(_row(phase.name, records, use, begin, begin + phase.seconds, scene.ttft_p95_seconds))
        begin += phase.seconds
    total = _row("whole run", result.records, use, 0.0, begin, scene.ttft_p95_seconds)
    return DemoReport(
        phases=tuple(rows),
        total=total,
        objective_seconds=scene.ttft_p95_seconds,
        used_replica_seconds=use.used_seconds(begin),
        peak_replicas=total.replicas[1],
        load_seconds=begin,
        objection=Trust(MAX_SEND_LAG_SECONDS, MAX_LAG_RATIO).objection(result),
        engine_lag_ratio=result.engine_lag.ratio,
        scaled_up=rows[1].replicas[1] > rows[0].replicas[2],
        errors=tuple(Counter(r.outcome for r in result.records if _has_failed(r)).most_common()),
        fallback_name=scene.fallback.name if scene.fallback is not None else "",
        relief=_relief(result.records, scene.phases[0].seconds),
    )


def _relief(records: Sequence[RequestRecord], begin: float) -> Relief | None:
    turned = [r.planned.at_seconds - begin for r in records if r.outcome == SHED or _is_by_fallback(r)]
    return Relief(min(turned), max(turned)) if turned else None


def _has_failed(record: RequestRecord) -> bool:
    return record.outcome not in (OK, SHED)


def _is_by_fallback(record: RequestRecord) -> bool:
    return record.outcome == OK and record.served_because in (REASON_OVERLOAD, REASON_ERROR)


def _row(
    name: str, records: Sequence[RequestRecord], use: ReplicaUse, begin: float, end: float, objective: float
) -> Row:
    answered = [r.ttft_seconds for r in records if r.outcome == OK and r.ttft_seconds is not None]
    return Row(
        name=name,
        offered_per_second=len(records) / (end - begin),
        requests=len(records),
        failed=sum(_has_failed(r) for r in records),
        by_fallback=sum(_is_by_fallback(r) for r in records),
        shed=sum(r.outcome == SHED for r in records),
        replicas=(use.fewest(begin, end), use.peak(begin, end), use.last(begin, end)),
        ttft_p95_seconds=float(np.percentile(answered, 95)) if answered else None,
        within_ratio=sum(each <= objective for each in answered) / len(answered) if answered else None,
    )
