"""One engine type's answers as columns, each reduced as soon as it arrives.

Then its body can go: eleven answers of 10,000 services side by side, parsed, were 100 MB of the peak.
A signal is a column (a number per service) or one absence that all services share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.metrics_source import absences
from penstock.metrics_source.ask import Answer
from penstock.metrics_source.base import QueryError, Sample, Samples
from penstock.metrics_source.catalogue import PERCENTILES, FleetQuery
from penstock.metrics_source.columns import Column, by_part
from penstock.metrics_source.identity import PART_LABEL, IdentifyBy, SeriesSettings
from penstock.metrics_source.partial_answers import incomplete
from penstock.metrics_source.plan import EnginePlan
from penstock.metrics_source.promql import (
    AGE,
    BEFORE,
    DENOMINATOR,
    FIRST_TOKENS,
    NUMERATOR,
    PODS,
    RUNNING,
    TPOT,
)
from penstock.model.observation import Histogram
from penstock.model.reading import Reading
from penstock.model.spec import Metric

Signal = Column | Reading
Family = Mapping[float, Column] | Reading  # by percentile
_METRIC_OF = {query: metric for metric, query in PERCENTILES.items()}
# A part of these looks like less load; means, percentiles and lengths of some requests are those of most.
_LOAD = (
    FleetQuery.PULSE,
    FleetQuery.WAITING,
    FleetQuery.QUEUE_GROWTH,
    FleetQuery.ARRIVAL_RATE,
    FleetQuery.INPUT_TOKEN_RATE,
    FleetQuery.OUTPUT_TOKEN_RATE,
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the running gauge tells: its sum, the age of its newest sample, how many pods report."""

    running: Column
    ages: Column
    pods: Column
    gone: Sequence[int]  # rows whose series are absent or stale
    window_filled: bool
    hint: str  # what a service without series should look at


@dataclass(slots=True)
class FleetColumns:
    """The columns of one tick, filled by `take`; complete when every query of the plan was taken."""

    plan: EnginePlan
    settings: SeriesSettings
    signals: dict[FleetQuery, Signal] = field(default_factory=dict)
    families: dict[Metric, Family] = field(default_factory=dict)
    lengths: dict[FleetQuery, Sequence[Histogram | None] | Reading] = field(default_factory=dict)
    pulse: Pulse | Reading | None = None
    first_token_seconds: Column | None = None  # per second, that requests waited for their first token
    _warnings: dict[FleetQuery, tuple[str, ...]] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the server said beside its answers, in the order of the queries."""
        said = (each for query in self.plan.queries for each in self._warnings.get(query, ()))
        return tuple(dict.fromkeys(said))

    @property
    def partial(self) -> Reading | None:
        """Return why there may be more load than was read; None where nothing says so."""
        found = (incomplete(query.value, self._warnings.get(query, ())) for query in _LOAD)
        return next((each for each in found if each is not None), None)

    def take(self, query: FleetQuery, answer: Answer | None) -> None:
        """Reduce one answer; None: the engine has no metric for it and nothing was asked."""
        if isinstance(answer, QueryError):
            self._lack(query, absences.query_failed(query.value, answer))
        elif answer is None:
            self._lack(query, absences.not_exposed(self.plan.series, query))
        else:
            self._warnings[query] = answer.warnings
            try:
                self._reduce(query, answer.samples)
            except QueryError as error:  # found in the midst of a long answer
                self._lack(query, absences.query_failed(query.value, error))

    def _lack(self, query: FleetQuery, why: Reading) -> None:
        """Note that nobody has the signal."""
        if query is FleetQuery.PULSE:
            self.pulse = why
        elif query in _METRIC_OF:
            self.families[_METRIC_OF[query]] = why
        elif query in (FleetQuery.INPUT_LENGTHS, FleetQuery.OUTPUT_LENGTHS):
            self.lengths[query] = why
        else:
            self.signals[query] = why

    def _reduce(self, query: FleetQuery, samples: Samples) -> None:
        index = self.plan.index
        if query is FleetQuery.PULSE:
            self.pulse = self._pulse(samples)
        elif query in _METRIC_OF:
            self.families[_METRIC_OF[query]] = self._family(_METRIC_OF[query], samples)
        elif query in (FleetQuery.INPUT_LENGTHS, FleetQuery.OUTPUT_LENGTHS):
            self.lengths[query] = index.lengths(samples)
        elif query is FleetQuery.TPOT_MEAN:
            totals = index.totals_by_part(samples)
            self.first_token_seconds = totals.get(FIRST_TOKENS)
            if self.settings.identify_by is IdentifyBy.POD:
                over, under = (totals.get(part) or index.empty() for part in (NUMERATOR, DENOMINATOR))
                self.signals[query] = [_ratio(*pair) for pair in zip(over, under, strict=True)]
            else:
                self.signals[query] = totals.get(TPOT) or index.empty()
        else:
            self.signals[query] = index.total(samples)

    def _pulse(self, samples: Samples) -> Pulse:
        index, bound = self.plan.index, self.settings.stale_after_seconds
        strays: list[Sample] = []
        if self.settings.identify_by is IdentifyBy.POD:
            parts = by_part(samples)
            running, ages = index.total(parts.get(RUNNING, [])), index.least(parts.get(AGE, []))
            pods = index.count_up_to(parts.get(AGE, []), bound)
            strays = [*parts.get(BEFORE, []), *parts.get(RUNNING, [])]
        else:
            totals = index.totals_by_part(samples, strays)
            running, ages, pods = (totals.get(part) or index.empty() for part in (RUNNING, AGE, PODS))
        before = [value for labels, value in strays if labels.get(PART_LABEL) == BEFORE]
        gone = [row for row, age in enumerate(ages) if age is None or not age <= bound]
        return Pulse(
            running=running,
            ages=ages,
            pods=pods,
            gone=gone,
            window_filled=any(age <= self.settings.rate_window_seconds / 2 for age in before),
            hint=self._hint(running, strays) if gone else "",
        )

    def _family(self, metric: Metric, samples: Samples) -> Mapping[float, Column]:
        index, percentiles = self.plan.index, self.plan.percentiles[metric]
        if self.settings.identify_by is IdentifyBy.POD:
            return index.quantiles(samples, percentiles)
        totals = index.totals_by_part(samples)
        return {each: totals.get(f"{each:g}") or index.empty() for each in percentiles}

    def _hint(self, running: Column, strays: Sequence[Sample]) -> str:
        """Say what a service without series should look at, from what the others have."""
        index = self.plan.index
        found = [labels for labels, _ in strays if labels.get(PART_LABEL) == RUNNING]
        if all(each is None for each in running):
            if not found:
                advice = self.plan.series.advice.get(FleetQuery.PULSE, "")
                start = f", {advice}" if advice else ""
                return f"nobody has any; check engine.type{start} and that Prometheus scrapes the pods"
            for label in (index.namespace_label, index.label):
                if not any(label in labels for labels in found):
                    return (
                        f"series exist, none has the label {label!r}; set the label that your scrapes write"
                    )
        return "others have it; check that Prometheus scrapes its pods and that these labels match"


def _ratio(over: float | None, under: float | None) -> float | None:
    if over is None or under is None:
        return None
    return over / under if under else math.nan
