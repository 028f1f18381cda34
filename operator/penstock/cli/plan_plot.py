"""``--plot``: p95 latencies against replicas at the plan's rate, and against load at its count."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from penstock.cli.plan_answer import Plan
from penstock.cli.plan_fault import PlanFault
from penstock.cli.plan_question import Outcome
from penstock.model.spec import Metric, Objective
from penstock.policy import wording
from penstock.queueing.distribution import Distribution

_LOADS = 24  # points from 5 % to 99 % of saturation
_COLOURS = {0.5: "#8fb8de", 0.9: "#4a90c4", 0.95: "#1f5f99", 0.99: "#0b2545"}
_TITLES = {
    Metric.TTFT: "Time to first token",
    Metric.TPOT: "Time per output token",
    Metric.LATENCY: "Latency",
}


def require_matplotlib() -> None:
    """Raise PlanFault, before any work is done, where the extra is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise PlanFault("--plot needs matplotlib, which is not installed", "pip install 'penstock[plot]'")


def plot_plan(plan: Plan, path: Path) -> None:
    """Write the PNG. Raises PlanFault if the file cannot be written."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    metrics = _metrics(plan)
    figure, axes = pyplot.subplots(len(metrics), 2, figsize=(11, 1.2 + 3.1 * len(metrics)), squeeze=False)
    by_count = [plan.question.sketch(count, plan.rate_per_second) for count in _counts(plan)]
    by_load = [plan.question.sketch(plan.sizing.replicas, rate) for rate in _rates(plan)]
    for row, metric in zip(axes, metrics, strict=True):
        _draw(row[0], plan, metric, [each.replicas for each in by_count], by_count, plan.sizing.replicas)
        _draw(row[1], plan, metric, [each.rate_per_second for each in by_load], by_load, plan.rate_per_second)
        row[0].set_title(f"{_TITLES[metric]} at {wording.rate(plan.rate_per_second)} req/s", fontsize=10)
        row[1].set_title(f"{_TITLES[metric]} with {wording.replicas(plan.sizing.replicas)}", fontsize=10)
        row[0].xaxis.get_major_locator().set_params(integer=True)
    axes[-1][0].set_xlabel("replicas")
    axes[-1][1].set_xlabel("load (requests per second)")
    figure.suptitle(_headline(plan), fontsize=12)
    figure.tight_layout()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise PlanFault(
            f"{path} cannot be written: {error.strerror or error}", "give a path that can be written"
        ) from error
    finally:
        pyplot.close(figure)


def _headline(plan: Plan) -> str:
    spare = plan.question.spec.replicas.spare
    text = f"{plan.question.spec.key}: {wording.replicas(plan.sizing.replicas)}"
    return (
        f"{text} and {spare} spare, {plan.sizing.binding} binds"
        if spare
        else f"{text}, {plan.sizing.binding} binds"
    )


def _metrics(plan: Plan) -> list[Metric]:
    """Return what is drawn: TTFT and TPOT of token engines, latency else or where it is an objective."""
    asked = {each.metric for each in plan.question.spec.slo.objectives}
    if plan.question.profile is None:
        return [Metric.LATENCY]
    return [Metric.TTFT, Metric.TPOT, *([Metric.LATENCY] if Metric.LATENCY in asked else [])]


def _counts(plan: Plan) -> list[int]:
    saturated = plan.rate_per_second / plan.sizing.saturation_rate_per_replica
    first = max(1, math.floor(saturated) + 1)
    last = max(plan.sizing.replicas + 2, math.ceil(1.6 * plan.sizing.replicas), first + 3)
    return sorted({round(count) for count in np.linspace(min(first, plan.sizing.replicas), last, 14)})


def _rates(plan: Plan) -> list[float]:
    most = plan.sizing.replicas * plan.sizing.saturation_rate_per_replica
    # Denser towards saturation, where the curves turn.
    loads = {float(rate) for rate in most * (0.99 - 0.94 * np.linspace(1, 0, _LOADS) ** 2)}
    return sorted(loads | ({plan.rate_per_second} if plan.rate_per_second < most else set()))


def _draw(
    axis: Any, plan: Plan, metric: Metric, x: list[Any], outcomes: list[Outcome], chosen: float
) -> None:
    objectives = [each for each in plan.question.spec.slo.objectives if each.metric is metric]
    percentiles = sorted({0.5, 0.95} | {each.percentile for each in objectives})
    values: dict[float, list[float]] = {}
    for percentile in percentiles:
        values[percentile] = [1000 * _seconds(each, metric, percentile) for each in outcomes]
        drawn = [value if math.isfinite(value) else math.nan for value in values[percentile]]
        axis.plot(
            x,
            drawn,
            marker="o",
            markersize=3,
            color=_COLOURS[percentile],
            label=f"p{round(percentile * 100)}",
        )
    for objective in objectives:
        axis.axhline(
            1000 * objective.seconds,
            color=_COLOURS[objective.percentile],
            linestyle="--",
            linewidth=1.4,
            label=f"objective p{round(objective.percentile * 100)} {wording.seconds(objective.seconds)}",
        )
    axis.axvline(chosen, color="#777777", linestyle=":", linewidth=1.2, label="the plan")
    axis.set_ylim(0, _top(values, objectives))
    axis.set_ylabel("milliseconds")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, loc="best")


def _top(values: dict[float, list[float]], objectives: list[Objective]) -> float:
    """Return the axis' end: the curves and the objective's line, not how curves run away at saturation."""
    finite = [value for series in values.values() for value in series if math.isfinite(value)]
    highest = 1.1 * max(finite, default=1.0)
    limits = [1000 * each.seconds for each in objectives]
    return max(1.2 * max(limits), min(highest, 2.5 * max(limits))) if limits else highest


def _seconds(outcome: Outcome, metric: Metric, percentile: float) -> float:
    times: Distribution | None = {
        Metric.TTFT: outcome.prediction.ttft,
        Metric.TPOT: outcome.prediction.tpot,
        Metric.LATENCY: outcome.prediction.latency,
    }[metric]
    return math.inf if times is None else times.quantile(percentile)
