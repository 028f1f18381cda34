"""Raw counters of every canary's two arms at one instant: one query per signal for all of them together.

Counters are read as they are, not as rates: what an arm added is the difference between two readings
(policy/canary_counts.py), which a lost scrape only delays. A pod whose newest sample is stale has no
value; nothing that Prometheus does raises here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.metrics_source import absences
from penstock.metrics_source.arm_checks import CheckReader, ChecksRead, no_pods
from penstock.metrics_source.arm_counters import CountersOfPods
from penstock.metrics_source.arm_gateway import gateway_count, with_gateway_counts
from penstock.metrics_source.arm_queries import ArmQueryWriter, chunks_of
from penstock.metrics_source.arm_series import ENDED, NOT_COUNTED
from penstock.metrics_source.arm_types import Arm as Arm
from penstock.metrics_source.arm_types import ArmsRead as ArmsRead
from penstock.metrics_source.arm_types import ArmsWanted as ArmsWanted
from penstock.metrics_source.arm_types import ErrorSource as ErrorSource
from penstock.metrics_source.arm_types import Lack as Lack
from penstock.metrics_source.ask import Answer, Asker, CollectLimits
from penstock.metrics_source.base import MetricsSource, QueryError, QueryLimits
from penstock.metrics_source.catalogue import CATALOGUE, FleetQuery
from penstock.metrics_source.collection import collection_paused
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.canary_counts import LATENCY_METRICS, ArmReading, Metric, PodCounters
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, ServiceKey
from penstock.model.traffic import ArmCount

ARM_LIMITS = CollectLimits(deadline_seconds=5.0)
HISTOGRAMS = {
    Metric.TTFT: FleetQuery.TTFT,
    Metric.TPOT: FleetQuery.TPOT,
    Metric.LATENCY: FleetQuery.LATENCY,
}


async def read_arms(
    source: MetricsSource,
    wanted: Sequence[ArmsWanted],
    *,
    at: float,
    settings: SeriesSettings,
    limits: CollectLimits = ARM_LIMITS,
) -> Mapping[ServiceKey, ArmsRead]:
    """Return both arms of each service as of `at` (Unix seconds), by its key.

    `settings` name the labels namespace and pod. Nothing is asked when `wanted` is empty.
    """
    if not wanted:
        return {}
    asker = Asker(source, limits, at)
    questions = _questions(wanted, settings)
    bounds = QueryLimits(timeout_seconds=limits.query_timeout_seconds)
    readers = (CheckReader(each, settings, limits, asker.on_behalf_of(each.key.namespace)) for each in wanted)
    checks = asyncio.gather(*(each.read() for each in readers))
    answers, checked = await asyncio.gather(asker.all([each.query for each in questions], bounds), checks)
    counters, failures = CountersOfPods(settings), dict[tuple[EngineType, Metric], QueryError]()
    with collection_paused():
        for question, answer in zip(questions, answers, strict=True):
            failure = _take(counters, question, answer)
            if failure is not None:
                failures[question.engine, question.metric] = failure
    reader = _ArmReader(settings, counters, failures, at)
    return {each.key: reader.both(each, own) for each, own in zip(wanted, checked, strict=True)}


@dataclass(frozen=True, slots=True)
class _Question:
    engine: EngineType
    metric: Metric
    query: str


def _questions(wanted: Sequence[ArmsWanted], settings: SeriesSettings) -> list[_Question]:
    """Return one question per engine, signal and chunk of the pods that need it."""
    found = []
    for engine in dict.fromkeys(each.engine for each in wanted):
        for metric in Metric:
            asking = [each for each in wanted if each.engine is engine and _asks(each, metric)]
            for chunk in chunks_of(asking):
                writer = ArmQueryWriter(settings, chunk)
                query = (
                    writer.ended(ENDED[engine])
                    if metric is Metric.ERRORS
                    else writer.buckets(CATALOGUE[engine].histograms[HISTOGRAMS[metric]])
                )
                found.append(_Question(engine, metric, query))
    return found


def _asks(wanted: ArmsWanted, metric: Metric) -> bool:
    """Whether Prometheus is asked for a service's signal."""
    if metric is Metric.ERRORS:
        return wanted.errors_from is ErrorSource.ENGINE and wanted.engine in ENDED
    return metric in wanted.metrics and _series_name(wanted.engine, metric) != ""


def _series_name(engine: EngineType, metric: Metric) -> str:
    """Return the metric that messages name; empty where the engine has none."""
    if metric is Metric.ERRORS:
        return ENDED[engine].name if engine in ENDED else ""
    return CATALOGUE[engine].histograms.get(HISTOGRAMS[metric], "") if engine in CATALOGUE else ""


def _take(counters: CountersOfPods, question: _Question, answer: Answer) -> QueryError | None:
    """Take one answer; return why there is none."""
    if isinstance(answer, QueryError):
        return answer
    try:
        if question.metric is Metric.ERRORS:
            counters.take_ended(answer.samples, ENDED[question.engine])
        else:
            counters.take_buckets(answer.samples, question.metric)
    except QueryError as error:  # found in the midst of a long answer
        return error
    return None


@dataclass(frozen=True, slots=True)
class _ArmReader:
    """Puts together what the answers say of single arms."""

    settings: SeriesSettings
    counters: CountersOfPods
    failures: Mapping[tuple[EngineType, Metric], QueryError]
    at: float

    def both(self, wanted: ArmsWanted, checks: ChecksRead) -> ArmsRead:
        """Return both arms of a service."""
        stable, stable_lacks = self._arm(wanted, Arm.STABLE, checks)
        canary, canary_lacks = self._arm(wanted, Arm.CANARY, checks)
        lacks = (*stable_lacks, *canary_lacks, *sorted(checks.lacks, key=lambda each: (each.what, each.arm)))
        return ArmsRead(stable, canary, wanted.errors_from, lacks)

    def _arm(self, wanted: ArmsWanted, arm: Arm, checks: ChecksRead) -> tuple[ArmReading | None, list[Lack]]:
        namespace = wanted.key.namespace
        seen = (self.counters.of((namespace, pod)) for pod in sorted(wanted.pods(arm)))
        thresholds = checks.thresholds if arm is Arm.CANARY else {}
        reading = ArmReading(
            self.at,
            tuple(pod for pod in seen if pod is not None),
            tuple(sorted(checks.counters[arm], key=lambda each: (each.check, each.series))),
            thresholds,
            self.settings.stale_after_seconds,
        )
        lacks = []
        if wanted.errors_from is ErrorSource.GATEWAY:
            count = gateway_count(wanted.gateway, arm, self.at)
            if isinstance(count, ArmCount):
                reading = with_gateway_counts(reading, count)
            else:
                reading = _without_errors(reading)
                lacks.append(count)
        for metric in wanted.metrics:
            of_gateway = metric is Metric.ERRORS and wanted.errors_from is ErrorSource.GATEWAY
            if not of_gateway and not any(_has(pod, metric) for pod in reading.pods):
                why = self._why(wanted, arm, metric)
                assert why.absence is not None  # noqa: S101 - it is why there is none
                lacks.append(Lack(arm, metric.value, why.absence, why.detail))
        something = reading.pods or reading.checks or any(each is not None for each in thresholds.values())
        return reading if something else None, lacks

    def _why(self, wanted: ArmsWanted, arm: Arm, metric: Metric) -> Reading:
        """Return why an arm lacks a metric that its engine was to give."""
        name, pods = _series_name(wanted.engine, metric), wanted.pods(arm)
        if not name:
            advice = NOT_COUNTED
            if metric in LATENCY_METRICS:
                series = CATALOGUE.get(wanted.engine)
                advice = series.advice.get(HISTOGRAMS[metric], "") if series is not None else ""
            return Reading.missing(
                Absence.NOT_EXPOSED,
                advice or f"engine.type {wanted.engine.value} has no histogram for {metric.value}",
            )
        if not pods:
            return no_pods(arm)
        failure = self.failures.get((wanted.engine, metric))
        if failure is not None:
            return absences.query_failed(f"{metric.value} of both arms", failure)
        if metric is Metric.ERRORS and any(
            (wanted.key.namespace, pod) in self.counters.ended for pod in pods
        ):
            return Reading.missing(Absence.NOT_EXPOSED, ENDED[wanted.engine].advice)
        labels = f'{self.settings.namespace_label}="{wanted.key.namespace}", {self.settings.pod_label}'
        more = " or its other pods" if len(pods) > 1 else ""
        return Reading.missing(
            Absence.NO_SERIES,
            f'no fresh series of {name} of the {arm.lower()} arm, {labels}="{min(pods)}"{more}: check that '
            "Prometheus scrapes them",
        )


def _has(pod: PodCounters, metric: Metric) -> bool:
    return getattr(pod, metric.value) is not None


def _without_errors(reading: ArmReading) -> ArmReading:
    return replace(reading, pods=tuple(replace(pod, requests=None, errors=None) for pod in reading.pods))
