"""A user's own checks of a canary: their queries for one arm, confined to the service's namespace.

Counters are asked for pod by pod: a sum falls when one pod restarts or goes, and everything the others
had ever counted would look new. ``$arm_pods`` is put in after the query was confined, so it stands inside
a string whatever the names are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import structlog

from penstock.metrics_source import absences
from penstock.metrics_source.arm_queries import arm_pattern
from penstock.metrics_source.arm_types import Arm, ArmsWanted, Lack
from penstock.metrics_source.ask import Asker, CollectLimits
from penstock.metrics_source.base import QueryError, QueryLimits, Sample, shorten
from penstock.metrics_source.confined import MOST_KEPT, confined
from penstock.metrics_source.identity import SeriesSettings
from penstock.metrics_source.partial_answers import incomplete
from penstock.metrics_source.promql_tokens import Kind, PromqlRefusedError, tokens_of
from penstock.model.canary_counts import CheckCounters
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.reading import Absence, Reading

log = structlog.get_logger(__name__)
ARM_PODS = "$arm_pods"
LONGEST_PATTERN = 16_384  # characters: 400 pods with names of 40
MOST_SERIES = 512
NOT_RAW = frozenset(("rate", "irate", "increase", "delta", "idelta", "deriv"))


@dataclass(slots=True)
class ChecksRead:
    """What a service's checks gave, by arm; thresholds are the canary's."""

    counters: dict[Arm, list[CheckCounters]] = field(default_factory=lambda: {arm: [] for arm in Arm})
    thresholds: dict[str, float | None] = field(default_factory=dict)
    lacks: list[Lack] = field(default_factory=list)


class _UnusableError(Exception):
    """A check without a value at this tick."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.detail)
        self.reading = reading


@dataclass(frozen=True, slots=True)
class CheckReader:
    """Reads all checks of one service."""

    wanted: ArmsWanted
    settings: SeriesSettings
    limits: CollectLimits
    asker: Asker

    async def read(self) -> ChecksRead:
        """Return the counters of both arms and the thresholds of the canary, and why others are missing."""
        read = ChecksRead()
        jobs = [
            self._into(read, check, arm)
            for check in self.wanted.checks
            for arm in (Arm if check.type is CheckType.COUNTERS else (Arm.CANARY,))
        ]
        await asyncio.gather(*jobs)
        return read

    async def _into(self, read: ChecksRead, check: CanaryCheck, arm: Arm) -> None:
        try:
            if check.type is CheckType.COUNTERS:
                read.counters[arm] += await self._counters(check, arm)
            else:
                read.thresholds[check.name] = None
                read.thresholds[check.name] = await self._threshold(check, arm)
        except _UnusableError as unusable:
            absence = unusable.reading.absence
            assert absence is not None  # noqa: S101 - it is why there is none
            read.lacks.append(Lack(arm, check.name, absence, unusable.reading.detail))
        except Exception as error:
            # Whatever it is, it is this check's: all canaries are read together.
            log.exception(
                "a canary's check could not be read", service=str(self.wanted.key), check=check.name
            )
            defect = f"a defect of Penstock met the check {check.name}: {type(error).__name__}: {error}"
            why = f"{defect}; the log has more, report it"
            read.lacks.append(Lack(arm, check.name, Absence.QUERY_FAILED, why))

    async def _counters(self, check: CanaryCheck, arm: Arm) -> list[CheckCounters]:
        names = f"bad of {check.name}", f"total of {check.name}"
        queries = [
            self._query(name, promql, arm, raw=True)
            for name, promql in zip(names, (check.bad, check.total), strict=True)
        ]
        bad, total = await asyncio.gather(
            *(self._ask(name, query, MOST_SERIES) for name, query in zip(names, queries, strict=True))
        )
        failures = self._by_pod(names[0], check.bad, bad, arm)
        totals = self._by_pod(names[1], check.total, total, arm)
        for pod in totals:
            if pod not in failures:
                raise _UnusableError(
                    Reading.missing(
                        Absence.NO_SERIES,
                        f"the query for {names[0]} gives nothing for {pod}, that for total does: counters "
                        "that appear with the first failure need '<bad> or 0 * <total>'",
                    )
                )
        return [CheckCounters(check.name, each, failures[each], count) for each, count in totals.items()]

    async def _threshold(self, check: CanaryCheck, arm: Arm) -> float:
        query = self._query(check.name, check.query, arm, raw=False)
        samples = await self._ask(check.name, query, 1)
        value = samples[0][1]
        if not math.isfinite(value):
            raise _UnusableError(absences.custom_not_a_number(check.name, check.query, value))
        return value

    def _query(self, name: str, promql: str, arm: Arm, *, raw: bool) -> str:
        """Return the query to send: confined, with the arm's pods in it."""
        pattern = arm_pattern(self.wanted, arm)
        if not pattern:
            raise _UnusableError(no_pods(arm))
        if len(pattern) > LONGEST_PATTERN:
            reason = f"the arm has too many pods: their names make more than {LONGEST_PATTERN} characters"
            raise _UnusableError(absences.custom_refused(name, reason))
        try:
            scoped = confined(promql, self.wanted.key.namespace, self.settings)
        except PromqlRefusedError as error:
            raise _UnusableError(absences.custom_refused(name, str(error))) from None
        if raw and ARM_PODS not in scoped.promql:
            reason = (
                f'it does not tell the arms apart: match the pods, {self.settings.pod_label}=~"{ARM_PODS}"'
            )
            raise _UnusableError(absences.custom_refused(name, reason))
        if raw and (differences := _words(promql) & NOT_RAW):
            reason = (
                f"{min(differences)}() is no counter: give the counter as it is, differences are taken here"
            )
            raise _UnusableError(absences.custom_refused(name, reason))
        return scoped.promql.replace(ARM_PODS, pattern)

    async def _ask(self, name: str, query: str, series: int) -> Sequence[Sample]:
        limits = QueryLimits(
            timeout_seconds=self.limits.custom_timeout_seconds,
            answer_bytes=self.limits.custom_answer_bytes,
            series=series + 1,  # tells all of them from too many
        )
        answer = await self.asker.one(query, limits)
        if isinstance(answer, QueryError):
            raise _UnusableError(absences.query_failed(name, answer))
        if (partial := incomplete(name, answer.warnings)) is not None:
            # A counter without some of its series falls, and when they are back all of theirs looks new.
            raise _UnusableError(partial)
        try:
            samples = list(answer.samples)
        except QueryError as error:
            raise _UnusableError(absences.query_failed(name, error)) from None
        if not samples:
            raise _UnusableError(absences.custom_empty(name, query, self.wanted.key.namespace))
        if len(samples) > series:
            raise _UnusableError(
                absences.custom_several(name, query)
                if series == 1
                else absences.custom_refused(name, f"it gives more than {series} series: sum by the pod")
            )
        return samples

    def _by_pod(self, name: str, promql: str, samples: Sequence[Sample], arm: Arm) -> Mapping[str, float]:
        """Return the counter of each pod: its series added up, which restart together."""
        found: dict[str, float] = {}
        pod_label, pods = self.settings.pod_label, self.wanted.pods(arm)
        for labels, value in samples:
            if not math.isfinite(value):
                raise _UnusableError(absences.custom_not_a_number(name, promql, value))
            if value < 0:
                raise _UnusableError(absences.custom_negative(name, promql))
            if pod_label not in labels and len(pods) > 1:
                raise _UnusableError(
                    Reading.missing(
                        Absence.SEVERAL_SERIES,
                        f"the query for {name} adds up {len(pods)} pods, so that a restart of one looks like "
                        f"new requests: write sum by ({pod_label}) (...) (query: {shorten(promql)})",
                    )
                )
            pod = labels.get(pod_label) or min(pods)
            found[pod] = found.get(pod, 0.0) + value
        return found


@lru_cache(maxsize=MOST_KEPT)
def _words(promql: str) -> frozenset[str]:
    """Return the names in a query that has been let through."""
    return frozenset(token.text for token in tokens_of(promql) if token.kind is Kind.IDENTIFIER)


def no_pods(arm: Arm) -> Reading:
    """An arm without pods."""
    return Reading.missing(Absence.NO_SERIES, f"the {arm.lower()} arm has no pods")
