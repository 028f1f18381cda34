"""What was seen and decided, kept for replays: handed over by the tick, written by a thread of its own.

The tick only passes references to values that nobody changes. A disk that is full or slow costs records,
which are counted, and never a tick. After a loss each service begins anew with what is remembered, and so
does one whose spec was changed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import NamedTuple

import orjson
import structlog

from penstock.controller.record_files import RecordFiles
from penstock.controller.service_state import Outcome
from penstock.model.spec import ServiceKey, ServiceSpec
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem
from penstock.policy.memory import ServiceMemory
from penstock.records.decision import decision_line
from penstock.records.observation import Begin, Recorded, Solved, observation_line
from penstock.records.written import Unexplained, written_between
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)
MOST_TICKS_WAITING = 2  # at 10,000 services a tick's values are some 50 MB while they wait
SERVICES_AT_ONCE = 50  # written together: what a segment may be too long by
LONGEST_CLOSE_SECONDS = 5.0
NEWLINE = orjson.OPT_APPEND_NEWLINE


class Seen(NamedTuple):
    """One service in one tick: its memory before and after, the table's problem, and what came of it."""

    before: ServiceMemory
    after: ServiceMemory
    solved: CapacityProblem | None
    outcome: Outcome


class Recorder:
    """Writes records in a thread; `take` never waits."""

    def __init__(self, files: RecordFiles, times: LoopTimes, metrics: OperatorMetrics) -> None:
        self._files, self._times, self._metrics = files, times, metrics
        self._waiting: queue.Queue[Sequence[Seen] | None] = queue.Queue(MOST_TICKS_WAITING)
        self._last: dict[ServiceKey, Seen] = {}  # of the services whose beginning this segment holds
        self._gap = False  # set by the tick, read by the thread
        self._failing = ""
        self._thread = threading.Thread(target=self._write_all, name="records", daemon=True)
        self._thread.start()

    def take(self, tick: Sequence[Seen]) -> None:
        """Take over what one tick has seen; it must not be changed any more."""
        try:
            self._waiting.put_nowait(tick)
        except queue.Full:
            self._gap = True
            self._metrics.records_lost.labels("behind").inc(len(tick))

    def wait_until_written(self) -> None:
        """Block until all that was taken is written, or lost."""
        self._waiting.join()

    def close(self) -> None:
        """Write what waits, for some seconds at most."""
        try:
            self._waiting.put(None, timeout=LONGEST_CLOSE_SECONDS)
        except queue.Full:
            return
        self._thread.join(LONGEST_CLOSE_SECONDS)

    def _write_all(self) -> None:
        while (tick := self._waiting.get()) is not None:
            if self._gap:
                self._gap = False
                self._last.clear()
            for first in range(0, len(tick), SERVICES_AT_ONCE):
                self._write(tick[first : first + SERVICES_AT_ONCE])
            self._waiting.task_done()
        self._files.close()

    def _write(self, part: Sequence[Seen]) -> None:
        """Write some services; what fails is lost, counted, and said once until it works again."""
        try:
            lines = self._lines(part)
            if not self._files.has_room(*lines):
                # A segment is to be read by itself: whoever is in it begins in it.
                self._files.end_segment()
                self._last.clear()
                lines = self._lines(part)
            self._files.write(*lines)
        except OSError as error:
            # A full disk is the user's to mend: said once, without a traceback, until it works again.
            if str(error) != self._failing:
                log.error("records cannot be written; decisions go on without", error=str(error))
            self._lose(part, error)
            return
        except Exception as error:
            # A defect in them is no reason to stop recording other services.
            if str(error) != self._failing:
                log.exception("records cannot be made; decisions go on without", error=str(error))
            self._lose(part, error)
            return
        if self._failing:
            self._failing = ""
            log.info("records are written again")
        self._last.update({each.outcome.spec.key: each for each in part})
        self._metrics.records.inc(len(part))

    def _lose(self, part: Sequence[Seen], error: Exception) -> None:
        self._last.clear()
        self._metrics.records_lost.labels("failed").inc(len(part))
        self._failing = str(error)

    def _lines(self, part: Sequence[Seen]) -> tuple[bytes, bytes]:
        """Return the lines of observations and of decisions."""
        observations, decisions = [], []
        for seen in part:
            outcome, service = seen.outcome, str(seen.outcome.spec.key)
            observations.append(orjson.dumps(observation_line(self._recorded(seen)), option=NEWLINE))
            line = decision_line(
                outcome.seen.at, service, outcome.decision, outcome.admission, outcome.fallback
            )
            decisions.append(orjson.dumps(line, option=NEWLINE))
        return b"".join(observations), b"".join(decisions)

    def _recorded(self, seen: Seen) -> Recorded:
        """Return the observation, with all that is remembered where what was written before is not enough."""
        outcome, spec = seen.outcome, seen.outcome.spec
        last, written, begin = self._last.get(spec.key), None, None
        try:
            # Of a spec only the generation is written: what follows a change is for a replay of its own.
            if last is None or _version(last.outcome.spec) != _version(spec):
                raise Unexplained
            written = written_between(last.after, seen.before, last.outcome.seen.at)
        except Unexplained:
            begin = Begin(self._times, seen.before)
        return Recorded(
            seen=outcome.seen,
            around=outcome.around,
            service=str(spec.key),
            generation=spec.generation,
            solved=Solved.of(seen.solved),
            written=written,
            begin=begin,
        )


def _version(spec: ServiceSpec) -> tuple[str, int]:
    return spec.uid, spec.generation
