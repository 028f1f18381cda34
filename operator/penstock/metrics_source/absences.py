"""Why a signal has no value, in the words that the user reads: what was asked, what came back, what to do.

These texts become the message of MetricsAvailable, so they hold nothing that changes from tick to tick
while nothing changes (no ages, no counts of attempts): a condition's message is a write.
"""

from __future__ import annotations

import math

from penstock.metrics_source.base import QueryError, shorten
from penstock.metrics_source.catalogue import EngineSeries, FleetQuery
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.model.reading import Absence, Reading


def not_exposed(series: EngineSeries, query: FleetQuery) -> Reading:
    """The engine has no metric for it."""
    advice = series.advice.get(query, "this engine has no such metric")
    return Reading.missing(Absence.NOT_EXPOSED, advice)


def query_failed(what: str, error: QueryError) -> Reading:
    """The query has no answer."""
    return Reading.missing(Absence.QUERY_FAILED, f"the query for {what} failed: {error.message}")


def clock_skew(skew_seconds: float, settings: SeriesSettings) -> Reading:
    """Prometheus's clock and ours differ too much to judge any sample's age."""
    direction = "ahead of" if skew_seconds > 0 else "behind"
    # Rounded to the bound, so that a drifting clock does not write a new message every tick.
    bound = settings.clock_skew_bound_seconds
    about = max(1, math.floor(abs(skew_seconds) / bound)) * bound
    return Reading.missing(
        Absence.CLOCK_SKEW,
        f"Prometheus's clock is more than {about:g} s {direction} the operator's; "
        f"at most {bound:g} s can be worked with: synchronise the clocks of the nodes (NTP)",
    )


def no_series(watched: Watched, settings: SeriesSettings, *, metric: str, query: str, hint: str) -> Reading:
    """The query worked, and none of its series is this service's."""
    return Reading.missing(
        Absence.NO_SERIES,
        f"no series of {metric} {_whose(watched, settings)}: {hint} (query: {shorten(query)})",
    )


def stale(watched: Watched, settings: SeriesSettings, *, metric: str) -> Reading:
    """There were series, and they have ended or stand still."""
    return Reading.missing(
        Absence.STALE,
        f"no sample of {metric} {_whose(watched, settings)} is younger than "
        f"{settings.stale_after_seconds:g} s: its pods are gone or "
        "Prometheus fails to scrape them, see the targets page of Prometheus",
    )


def too_few_samples(metric: str, settings: SeriesSettings, advice: str) -> Reading:
    """Pods report, but there is no rate yet."""
    text = (
        f"{metric} has fewer than two samples in {settings.rate_window_seconds:g} s: pods that have just "
        "started need two scrapes; if this stays, the engine does not expose it"
    )
    return Reading.missing(Absence.TOO_FEW_SAMPLES, f"{text} ({advice})" if advice else text)


def window_not_filled(settings: SeriesSettings) -> Reading:
    """Prometheus has not scraped for a whole window: its rates would be too low."""
    return Reading.missing(
        Absence.TOO_FEW_SAMPLES,
        f"Prometheus has samples for less than {settings.rate_window_seconds:g} s, the window that rates are "
        "taken over: it was down or has just begun to scrape",
    )


def no_requests(settings: SeriesSettings) -> Reading:
    """Nothing is broken: there was nothing to measure."""
    return Reading.missing(
        Absence.NO_REQUESTS, f"no request finished within {settings.rate_window_seconds:g} s"
    )


def not_a_number(metric: str, value: float) -> Reading:
    """A value came back that is none."""
    return Reading.missing(
        Absence.NOT_A_NUMBER, f"{metric} gives {_name(value)}: its series hold values that are no numbers"
    )


def no_custom_query(signal: str) -> Reading:
    """A Custom engine without a query for it."""
    return Reading.missing(Absence.NOT_EXPOSED, f"spec.engine.queries has no query for {signal}: add one")


def custom_refused(signal: str, reason: str) -> Reading:
    """A user's query that is not sent."""
    return Reading.missing(Absence.QUERY_FAILED, f"the query for {signal} cannot be used: {reason}")


def custom_empty(signal: str, promql: str, namespace: str) -> Reading:
    """A user's query that matches nothing."""
    return Reading.missing(
        Absence.NO_SERIES,
        f"the query for {signal} gives no series in namespace {namespace}, the only one it can read: "
        f"check names and labels (query: {shorten(promql)})",
    )


def custom_several(signal: str, promql: str) -> Reading:
    """A user's query that gives more than one number."""
    return Reading.missing(
        Absence.SEVERAL_SERIES,
        f"the query for {signal} gives several series where one is expected: "
        f"put sum(...) around it, or match more labels (query: {shorten(promql)})",
    )


def custom_not_a_number(signal: str, promql: str, value: float) -> Reading:
    """A user's query whose value cannot be used."""
    return Reading.missing(
        Absence.NOT_A_NUMBER,
        f"the query for {signal} gives {_name(value)}: guard divisions, for example with "
        f"'... / (x > 0)' (query: {shorten(promql)})",
    )


def custom_negative(signal: str, promql: str) -> Reading:
    """A user's query for something that cannot be negative."""
    return Reading.missing(
        Absence.NOT_A_NUMBER,
        f"the query for {signal} gives a negative number, which it cannot be (query: {shorten(promql)})",
    )


def custom_stale(settings: SeriesSettings) -> Reading:
    """The series that a user's queries read stand still."""
    return Reading.missing(
        Absence.STALE,
        "the series that spec.engine.queries read have no sample younger than "
        f"{settings.stale_after_seconds:g} s: what exports them is gone or Prometheus fails to scrape it",
    )


def custom_lost(signal: str, promql: str) -> Reading:
    """A user's query whose series have all ended: what it gives without them stands in for nothing."""
    return Reading.missing(
        Absence.STALE,
        f"the series that the query for {signal} reads have ended within the last hour: what exports them "
        f"is gone or Prometheus fails to scrape it (query: {shorten(promql)})",
    )


def _whose(watched: Watched, settings: SeriesSettings) -> str:
    namespace = f'{settings.namespace_label}="{watched.key.namespace}"'
    if settings.identify_by is IdentifyBy.SERVICE:
        return f'with {namespace}, {settings.service_label}="{watched.label_value}"'
    if not watched.pods:
        return f"of {watched.label_value}, whose Service has no pods"
    # One pod is enough to look for, and the message does not change with the number of pods.
    more = " or its other pods" if len(watched.pods) > 1 else ""
    return f'with {namespace}, {settings.pod_label}="{min(watched.pods)}"{more}'


def _name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
