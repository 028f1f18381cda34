"""What came of the canary scene: requests of both arms by phase, the evidence, the verdicts. Pure.

Who served a request is what its answer says (`x-penstock-reason`): requests of the arms are what clients
saw. A phase's figures are of the requests that were due in it. No verdict on the scene is given when this
machine, not the engines, decided the latencies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.dataplane.envoy.names import REASON_CANARY
from penstock.engine.lag import MAX_LAG_RATIO
from penstock.engine.load_generator import LoadResult
from penstock.engine.load_report import Trust
from penstock.engine.stream_client import OK, RequestRecord
from penstock.sandbox.demo.canary_story import EvidenceReading, MetricReading, Stand
from penstock.sandbox.demo.report import MAX_SEND_LAG_SECONDS

PROMOTED, ROLLED_BACK, ROLLING_BACK = "Promoted", "RolledBack", "RollingBack"
LATE_SECONDS = 2.5  # what decided is read a moment after the decision, and is not changed by it
VERDICTS = {PROMOTED: "promoted", ROLLING_BACK: "rolled back", ROLLED_BACK: "rolled back"}


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase of one revision. `evidence` is that at its end."""

    revision: str
    phase: str
    weight_percent: int
    begin_seconds: float
    end_seconds: float
    stable: int = 0
    canary: int = 0
    evidence: tuple[MetricReading, ...] = ()


@dataclass(frozen=True, slots=True)
class TriedRevision:
    """What was expected of a revision, and what became of it; `verdict` empty: none in time."""

    name: str
    expected: str
    verdict: str
    seconds: float | None  # from its first request to the verdict
    rows: tuple[PhaseRow, ...]

    @property
    def decided_in(self) -> int:
        """Return the position of the phase at whose end the verdict came; of the last one without."""
        ends = (position for position, row in enumerate(self.rows) if row.phase in VERDICTS)
        return max(0, next(ends, len(self.rows)) - 1)


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """The outcome; `objection` says why the figures describe this machine, empty when they do not."""

    tried: tuple[TriedRevision, ...]
    requests: int
    by_canary: int
    errors: tuple[tuple[str, int], ...]  # of the failed requests, the most frequent first
    objection: str
    engine_lag_ratio: float | None

    @property
    def failed(self) -> int:
        """Return how many requests got no whole answer; a 429 is one of them, for nothing limits here."""
        return sum(count for _, count in self.errors)

    @property
    def failure(self) -> str:
        """Say what did not go as it must; empty when all did."""
        if self.objection:
            return f"no verdict: {self.objection}"
        if self.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.errors)
            return f"{self.failed} of {self.requests} requests failed ({kinds})"
        for each in self.tried:
            if not each.verdict:
                return f"no verdict on the {each.name} revision in time"
            if each.verdict != each.expected:
                return f"the {each.name} revision was {each.verdict}; {each.expected} was expected"
        return "" if self.by_canary else "the canaries answered nothing"


def tried_revision(
    name: str, expected: str, stands: Sequence[Stand], readings: Sequence[EvidenceReading], end: float
) -> TriedRevision:
    """Return what became of a revision from where it stood over time; `end` in seconds of the load."""
    first = next((each.at_seconds for each in stands if each.weight_percent), None)
    decided = next((each for each in stands if each.phase in VERDICTS), None)
    rows: list[PhaseRow] = []
    for position, stand in enumerate(stands):
        until = stands[position + 1].at_seconds if position + 1 < len(stands) else end
        same = rows and _phase(stands[position - 1]) == _phase(stand)
        if same:
            rows[-1] = replace(rows[-1], weight_percent=stand.weight_percent, end_seconds=until)
        else:
            rows.append(PhaseRow(name, stand.phase, stand.weight_percent, stand.at_seconds, until))
    return TriedRevision(
        name,
        expected,
        VERDICTS[decided.phase] if decided is not None else "",
        decided.at_seconds - first if decided is not None and first is not None else None,
        tuple(replace(row, evidence=_latest(readings, row)) for row in rows),
    )


def build_canary_report(tried: Sequence[TriedRevision], result: LoadResult) -> CanaryReport:
    """Return the outcome of a load that ran to its end."""
    records = result.records
    return CanaryReport(
        tried=tuple(replace(each, rows=tuple(_counted(row, records) for row in each.rows)) for each in tried),
        requests=len(records),
        by_canary=sum(_is_by_canary(each) for each in records),
        errors=tuple(Counter(each.outcome for each in records if each.outcome != OK).most_common()),
        objection=Trust(MAX_SEND_LAG_SECONDS, MAX_LAG_RATIO).objection(result),
        engine_lag_ratio=result.engine_lag.ratio,
    )


def _phase(stand: Stand) -> tuple[str, str]:
    return stand.phase, stand.step


def _latest(readings: Sequence[EvidenceReading], row: PhaseRow) -> tuple[MetricReading, ...]:
    """Return the evidence at the end of a phase; none where its requests were no evidence yet."""
    if not row.weight_percent:
        return ()
    until = row.end_seconds + LATE_SECONDS
    known = [each for each in readings if row.begin_seconds <= each.at_seconds <= until]
    after = [each for each in known if each.at_seconds >= row.end_seconds]
    return (after or known[-1:])[0].metrics if known else ()


def _counted(row: PhaseRow, records: Sequence[RequestRecord]) -> PhaseRow:
    due = [each for each in records if row.begin_seconds <= each.planned.at_seconds < row.end_seconds]
    canary = sum(_is_by_canary(each) for each in due)
    return replace(row, canary=canary, stable=sum(each.outcome == OK for each in due) - canary)


def _is_by_canary(record: RequestRecord) -> bool:
    return record.outcome == OK and record.served_because == REASON_CANARY
