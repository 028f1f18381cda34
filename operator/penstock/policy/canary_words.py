"""The sentences of a canary's verdict, with the numbers that decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

from penstock.model.canary_counts import LATENCY_METRICS
from penstock.model.canary_verdict import Evidence, JudgeLimits, ThresholdCheck
from penstock.policy import wording
from penstock.policy.canary_judge_memory import ThresholdMemory
from penstock.policy.canary_latency import LEAST_INCREASE
from penstock.policy.canary_load import LEAST_LOAD_RATIO


def regression(row: Evidence, limits: JudgeLimits) -> str:
    """Say by how much the canary is worse, and what evidence decided."""
    allowed = f"{limits.max_regression_ratio:.3g} times are allowed"
    few = (limits.max_regression_ratio - 1) * row.stable_failures < LEAST_INCREASE * row.stable_total
    if row.edge_seconds is not None and few:
        allowed = f"{100 * LEAST_INCREASE:.2g} points more are allowed"
    return f"{_name(row.metric)}: {_shares(row)}{_times(row)}; {allowed}; {_evidence(row)}"


def stop_loss(row: Evidence, limits: JudgeLimits) -> str:
    """Say that too many canary requests fail, whatever the stable arm does."""
    return (
        f"errors: {_count(row.canary_failures)} of {_count(row.canary_total)} canary requests failed; "
        f"above {wording.percent(limits.error_stop_loss)} no canary goes on; {_evidence(row)}"
    )


def failed_check(check: ThresholdCheck, seen: ThresholdMemory) -> str:
    """Say which value of a user's query was out of bounds, and how often."""
    value = "no value" if seen.value is None else f"{seen.value:.4g}"
    if check.at_most is not None and seen.value is not None and seen.value > check.at_most:
        bound = f"above {check.at_most:.4g}"
    else:
        bound = f"below {check.at_least:.4g}" if check.at_least is not None else "out of bounds"
    return f"check {check.name}: {value} is {bound}, {seen.in_a_row} times in a row"


def promotion(rows: Sequence[Evidence], limits: JudgeLimits) -> str:
    """Say what was excluded, and the numbers."""
    parts = [f"{_name(row.metric)}: {_shares(row)}{_times(row)}" for row in rows]
    excluded = []
    if any(row.metric in LATENCY_METRICS for row in rows):
        excluded.append(f"{limits.max_regression_ratio:.3g} times as many slow requests")
    if any(row.metric not in LATENCY_METRICS for row in rows):
        excluded.append(f"{100 * limits.error_increase:.2g} points more errors")
    sure = f"excluded at {100 * (1 - limits.beta):.3g} %: {' and '.join(excluded)}"
    return f"no worse than the stable arm{_less_load(limits)}; {'; '.join(parts)}; {sure}"


def so_far_good(limits: JudgeLimits, needed: float | None, seconds: float | None) -> str:
    """Say that a step is passed, and what a promotion still takes."""
    good = f"no worse than the stable arm so far{_less_load(limits)}"
    return f"{good}: enough for the next step; {more(needed, seconds)} at like load"


def gathering(
    requests: float,
    rate: float | None,
    needed: float | None,
    seconds: float | None,
    *,
    worst: Evidence | None,
) -> str:
    """Say how much was seen, how much more it takes, and what leans which way."""
    seen = f"{_count(requests)} canary requests"
    seen += f" at {wording.rate(rate)} req/s" if rate is not None else ""
    lean = ""
    if worst is not None:
        lean = f"; {_name(worst.metric)} looks worse: {_shares(worst)}{_times(worst)}"
    return f"{seen}: {more(needed, seconds)}{lean}"


def more(needed: float | None, seconds: float | None) -> str:
    """Say how many more requests a verdict takes, and how long that is at the present rate."""
    if needed is None:
        return "how many more a verdict takes is not known yet"
    if needed < 1:
        return "a verdict is near"
    time = "" if seconds is None else f", {wording.span(_rounded(seconds))}"
    return f"a verdict takes about {_count(_rounded(needed))} more{time}"


def _less_load(limits: JudgeLimits) -> str:
    """Say that a canary replica has less load than a stable one, which flatters it."""
    if limits.load_ratio is None or limits.load_ratio >= LEAST_LOAD_RATIO:
        return ""
    return f" at {wording.percent(limits.load_ratio)} of its load per replica"


def _rounded(value: float) -> float:
    """Return two significant digits: an estimate is no better."""
    if value <= 0:
        return 0.0
    digits = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / digits) * digits


def _shares(row: Evidence) -> str:
    stable, canary = (
        f"{wording.percent(failures / total) if total else 'none'} of {_count(total)}"
        for failures, total in (
            (row.stable_failures, row.stable_total),
            (row.canary_failures, row.canary_total),
        )
    )
    what = "failed" if row.edge_seconds is None else f"slower than {wording.seconds(row.edge_seconds)}"
    return f"{canary} canary requests {what}, {stable} stable ones"


def _times(row: Evidence) -> str:
    if row.ratio is None or row.ratio_low is None or row.ratio_high is None:
        return ""
    low, high = _ratio(row.ratio_low), _ratio(row.ratio_high)
    return f", {_ratio(row.ratio)} times as many (95 %: {low} to {high})"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _evidence(row: Evidence) -> str:
    return f"evidence 10^{row.log10_against:.1f}, 10^{row.against_threshold:.1f} decides"


def _name(metric: str) -> str:
    if metric in LATENCY_METRICS:
        return metric if metric == "latency" else metric.upper()
    return metric if metric == "errors" else f"check {metric}"


def _count(value: float) -> str:
    return f"{value:,.0f}"
