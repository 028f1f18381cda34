"""The plan for people: why this count, its latencies, its neighbours, the sums that explain it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.plan_answer import Plan, broken_sentence, objective_named
from penstock.cli.plan_arithmetic import arithmetic_lines, limit_lines
from penstock.cli.plan_chart import chart
from penstock.cli.plan_question import Outcome, Question
from penstock.model.spec import Metric, Objective
from penstock.policy import wording
from penstock.policy.sizing import Sizing
from penstock.queueing.balancer import Balancer
from penstock.queueing.distribution import Distribution

_NARROWEST = 80
_SHOWN_COUNTS = 7
_BALANCERS = {
    Balancer.RANDOM: "random (as kube-proxy spreads)",
    Balancer.ROUND_ROBIN: "round robin",
    Balancer.POWER_OF_TWO: "the less loaded of two",
    Balancer.LEAST_REQUESTS: "least requests",
}
_METRICS = {Metric.TTFT: "TTFT", Metric.TPOT: "TPOT", Metric.LATENCY: "latency"}


def print_plan(plan: Plan, neighbours: list[Outcome], console: Console) -> None:
    """Print the plan and what counts near it give; readable at 80 columns."""
    # Tables pad their last column: what is piped or pasted is better without.
    with console.capture() as captured:
        _print_parts(plan, neighbours, console)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")
    console.file.flush()


def _print_parts(plan: Plan, neighbours: list[Outcome], console: Console) -> None:
    console.print(_headline(plan, neighbours))
    console.print()
    console.print(_facts(plan))
    console.print()
    if plan.stable:
        console.print(_latencies(plan))
    else:
        console.print(
            f"At {wording.replicas(plan.sizing.replicas)}: no steady state, every wait grows without bound"
        )
    console.print()
    console.print(_counts(plan, neighbours))
    console.print()
    shown = plan.question.shown_objective(plan.sizing.binding)
    limit = wording.seconds(shown.seconds)
    title = f"{wording.objective(shown)} against replicas (line: the objective, {limit})"
    console.print(Text(title, style="bold"))
    width = max(_NARROWEST, min(console.width, 120)) - 2
    ascii_only = not (console.encoding or "ascii").lower().startswith("utf")
    for line in chart(neighbours, shown, chosen=plan.sizing.replicas, columns=width, ascii_only=ascii_only):
        console.print(Text("  " + line), soft_wrap=True)
    console.print()
    console.print(_two_columns("Limits of one replica", limit_lines(plan)))
    console.print()
    console.print(_two_columns("Serving arithmetic", arithmetic_lines(plan)))


def neighbour_outcomes(plan: Plan) -> list[Outcome]:
    """Return what a few counts around the plan's give, all at its rate."""
    middle = plan.sizing.replicas
    # Steps of a tenth of a large pool: one more of 200 shows nothing.
    step = max(1, middle // 20)
    first = max(1, middle - step * (_SHOWN_COUNTS // 2)) if step == 1 else middle - 3 * step
    counts = sorted(
        {first + step * k for k in range(_SHOWN_COUNTS)} | {max(1, middle - 1), middle, middle + 1}
    )
    # The verdicts in the table are exact; what lies farther off only draws the curve.
    return [
        (plan.question.at if abs(count - middle) <= 1 else plan.question.sketch)(count, plan.rate_per_second)
        for count in counts
    ]


def _headline(plan: Plan, neighbours: list[Outcome]) -> Text:
    sizing, spec = plan.sizing, plan.question.spec
    spare = spec.replicas.spare
    head = f"{spec.key}: {wording.replicas(sizing.replicas)} at {wording.rate(plan.rate_per_second)} req/s"
    if spare:
        head += f", {sizing.replicas_with_spare} with {spare} spare"
    return Text.assemble((head, "bold"), "\n", f"Why: {_why(plan, neighbours)}")


def _why(plan: Plan, neighbours: list[Outcome]) -> str:
    sizing = plan.sizing
    if not sizing.feasible:
        return f"evaluated as asked, and will not do: {broken_sentence(plan)}"
    if plan.needed is not None and plan.needed < sizing.replicas:
        return f"spec.replicas.min; {wording.replicas(plan.needed)} would do"
    holds = "" if plan.needed is not None else "evaluated as asked, and holds; "
    if sizing.replicas == 1:
        return holds + "one replica keeps every objective"
    fewer = next(each for each in neighbours if each.replicas == sizing.replicas - 1)
    if fewer.broken is None:
        return holds + f"{wording.replicas(fewer.replicas)} would hold as well"
    return holds + f"{fewer.replicas} {_breaks(plan, fewer)}; {sizing.replicas} {_keeps(plan, fewer.broken)}"


def _breaks(plan: Plan, outcome: Outcome) -> str:
    objective = objective_named(plan.question, outcome.broken or "")
    if objective is not None:
        value = wording.seconds(outcome.seconds(objective))
        verb = "gives" if outcome.replicas == 1 else "give"
        return f"{verb} {wording.objective(objective)} {value} > {wording.seconds(objective.seconds)}"
    if outcome.broken == "availability":
        return f"would turn away {outcome.shed_fraction:.2%} of the requests"
    carried = outcome.replicas * plan.sizing.saturation_rate_per_replica
    return f"{'carries' if outcome.replicas == 1 else 'carry'} {wording.rate(carried)} req/s"


def _keeps(plan: Plan, broken: str) -> str:
    sizing = plan.sizing
    objective = objective_named(plan.question, broken)
    if objective is not None:
        value = plan.question.at(sizing.replicas, plan.rate_per_second).seconds(objective)
        return f"give {wording.seconds(value)}"
    if broken == "availability":
        return f"turn away {sizing.shed_fraction:.2%}"
    return f"carry {wording.rate(sizing.replicas * sizing.saturation_rate_per_replica)}"


def _facts(plan: Plan) -> Table:
    question, sizing = plan.question, plan.sizing
    rows = [("Load", question.traffic.source), ("Engine", _engine(plan))]
    rows.append(("Balancer", _BALANCERS[question.balancer]))
    rows.append(
        (
            "Utilization",
            f"{sizing.prediction.utilization:.0%} of saturation; {_shed(question, sizing)}",
        )
    )
    rows.append(
        (
            "Carries",
            f"{wording.rate(sizing.max_rate_per_replica * sizing.replicas)} req/s within the objectives",
        )
    )
    return _pairs(rows)


def _shed(question: Question, sizing: Sizing) -> str:
    if not question.spec.turns_away:
        return f"nobody is turned away (admission by gateways would shed {sizing.shed_fraction:.2%})"
    return f"shed {sizing.shed_fraction:.2%}, {1 - question.spec.slo.availability_ratio:.2%} allowed"


def _engine(plan: Plan) -> str:
    profile = plan.question.profile
    if profile is None:
        timing = plan.question.spec.engine.service_time
        assert timing is not None  # noqa: S101 - without a profile there is a service time
        mean = wording.seconds(timing.mean_seconds)
        return f"service time {mean}, SCV {timing.scv:g}, {timing.concurrency} at once"
    if profile.measured_error_percent is None:
        checked = "kernel times, not checked against a server" if profile.source == "AIC" else ""
    else:
        checked = f"{profile.measured_error_percent:g} % off {profile.measured_points} measurements (median)"
    return f"{profile.name}{f', {checked}' if checked else ''}"


def _latencies(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"At {wording.replicas(plan.sizing.replicas)}")
    for column in ("mean", "p50", "p90", "p95", "p99"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("objective")
    prediction = plan.sizing.prediction
    for metric, times in (
        (Metric.TTFT, prediction.ttft),
        (Metric.TPOT, prediction.tpot),
        (Metric.LATENCY, prediction.latency),
    ):
        if times is not None:
            table.add_row(_METRICS[metric], *_cells(times), _objectives(plan, metric))
    return table


def _cells(times: Distribution) -> list[str]:
    values = (times.mean, times.p50, times.p90, times.p95, times.p99)
    return [wording.seconds(value) for value in values]


def _objectives(plan: Plan, metric: Metric) -> str:
    return ", ".join(
        f"p{round(each.percentile * 100)} <= {wording.seconds(each.seconds)}"
        for each in plan.question.spec.slo.objectives
        if each.metric is metric
    )


def _counts(plan: Plan, neighbours: list[Outcome]) -> Table:
    objectives: tuple[Objective, ...] = plan.question.spec.slo.objectives
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("replicas", justify="right")
    table.add_column("util.", justify="right")
    for objective in objectives[:4]:
        table.add_column(wording.objective(objective), justify="right", no_wrap=True)
    table.add_column("shed", justify="right")
    table.add_column("verdict")
    for each in neighbours:
        if abs(each.replicas - plan.sizing.replicas) > 1:
            continue
        verdict = "holds" if each.broken is None else f"breaks {each.broken}"
        table.add_row(
            str(each.replicas),
            f"{each.prediction.utilization:.0%}",
            *(wording.seconds(each.seconds(objective)) for objective in objectives[:4]),
            f"{each.shed_fraction:.2%}",
            verdict,
            style="bold" if each.replicas == plan.sizing.replicas else "",
        )
    return table


def _two_columns(title: str, rows: list[tuple[str, str]]) -> Table:
    table = _pairs(rows)
    table.title = title
    table.title_justify = "left"
    table.title_style = "bold"
    return table


def _pairs(rows: list[tuple[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def describe_load(rate_per_second: float, process: str, details: str = "") -> str:
    """Return the load in words: ``20 req/s, Poisson arrivals; 1,155 in, 211 out tokens``."""
    return f"{wording.rate(rate_per_second)} req/s, {process}{f'; {details}' if details else ''}"
