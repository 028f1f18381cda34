"""The condition ObjectivesMet: the measured percentiles against the objectives, each by itself.

An objective that was missed is met again only 5 % below its limit; the others are judged as ever. So
which ones were missed goes in and comes out.
"""

from __future__ import annotations

from functools import lru_cache

from penstock.model.conditions import ConditionType, Finding, Status
from penstock.model.observation import Load
from penstock.model.reading import Reading
from penstock.model.spec import Metric, Objective, ServiceSpec
from penstock.policy import wording
from penstock.policy.estimate import Estimate

# A percentile of fewer requests than this moves by itself; it neither meets nor misses anything.
FEWEST_REQUESTS = 20.0
# A percentile that sits on its objective would otherwise turn the condition over at every scrape.
RECOVERY_RATIO = 0.95
NONE_MISSED: frozenset[Objective] = frozenset()
OBJECTIVES_MET = ConditionType.OBJECTIVES_MET.value


def objectives_finding(
    spec: ServiceSpec,
    load: Load,
    estimate: Estimate,
    *,
    missed_before: frozenset[Objective],
    window_seconds: float,
) -> tuple[Finding, frozenset[Objective]]:
    """Return the condition and the objectives that are missed now, to be given as `missed_before` next.

    What cannot be judged now is not remembered: it may be met again at its limit.
    """
    arrival = load.arrival_rate.value
    if arrival is None:
        message = "requests cannot be counted, see MetricsAvailable"
        return Finding(OBJECTIVES_MET, Status.UNKNOWN, "MetricsMissing", message), NONE_MISSED
    if arrival * window_seconds < FEWEST_REQUESTS:
        message = "too few requests to judge a percentile"
        return Finding(OBJECTIVES_MET, Status.UNKNOWN, "FewRequests", message), NONE_MISSED
    met: list[str] = []
    unknown: list[str] = []
    missed: dict[Objective, str] = {}
    for objective in spec.slo.objectives:
        name, limit = _words(objective.metric, objective.percentile, objective.seconds)
        reading = measured(load, objective)
        if reading is None or reading.value is None:
            unknown.append(_not_measured(name, reading))
            continue
        text = f"{name} {wording.seconds(reading.value)} of {limit}"
        # Asked for its truth first: to look for an objective in a set is to hash it, at every tick.
        recovering = bool(missed_before) and objective in missed_before
        if reading.value > objective.seconds:
            missed[objective] = text
        elif recovering and reading.value > objective.seconds * RECOVERY_RATIO:
            below = wording.seconds(objective.seconds * RECOVERY_RATIO)
            missed[objective] = f"{text} (met again below {below})"
        else:
            met.append(text)
    if missed:
        reason = "ObjectiveUnreachable" if estimate.unreachable else "ObjectiveMissed"
        message = "; ".join([*missed.values(), *estimate.unreachable])
        return Finding(OBJECTIVES_MET, Status.FALSE, reason, message), frozenset(missed)
    if unknown:
        message = "; ".join([*unknown, *met])
        return Finding(OBJECTIVES_MET, Status.UNKNOWN, "NotMeasured", message), NONE_MISSED
    return Finding(OBJECTIVES_MET, Status.TRUE, "ObjectivesMet", "; ".join(met)), NONE_MISSED


def measured(load: Load, objective: Objective) -> Reading | None:
    """Return the reading that an objective is about; None where it was not read."""
    if objective.metric is Metric.TTFT:
        return load.ttft.get(objective.percentile)
    family = load.tpot if objective.metric is Metric.TPOT else load.latency
    return family.get(objective.percentile)


def _not_measured(name: str, reading: Reading | None) -> str:
    why = "" if reading is None else reading.detail
    return f"{name} is not measured: {why}" if why else f"{name} is not measured"


@lru_cache(maxsize=4096)
def _words(metric: Metric, percentile: float, seconds: float) -> tuple[str, str]:
    """Return an objective's name and limit; a fleet has a handful of them, and asks at every tick."""
    return wording.objective(Objective(metric, percentile, seconds)), wording.seconds(seconds)
