"""``penstock plan``: from objectives and a load to a replica count, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import orjson
from rich.console import Console

from penstock.cli.plan_answer import Plan, make_plan, warnings
from penstock.cli.plan_output import describe_load, neighbour_outcomes, print_plan
from penstock.cli.plan_plot import plot_plan, require_matplotlib
from penstock.cli.plan_question import Outcome, Traffic, ask, require_offline_timing
from penstock.cli.plan_service import read_service
from penstock.cli.plan_trace import WINDOW_SECONDS, busiest_window, trace_of
from penstock.cli.positive_number import PositiveNumber
from penstock.model.spec import ServiceSpec
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.traffic import TrafficShape

BALANCERS = {
    "random": Balancer.RANDOM,
    "round-robin": Balancer.ROUND_ROBIN,
    "p2c": Balancer.POWER_OF_TWO,
    "least-requests": Balancer.LEAST_REQUESTS,
}
INTERRUPTED = 130
# The 1-s counts of a Poisson minute have an index of dispersion within 1 +- 0.37 (95 %): 2 is not chance.
_BURSTY = 2.0


@click.command(
    epilog="""\b
Examples:
  penstock plan -f service.yaml --rate 20 --input-tokens 1155 --output-tokens 211
  penstock plan -f service.yaml --rate 20 --input-tokens 1155 --output-tokens 211 --replicas 3 -o json
  penstock plan -f service.yaml --trace trace.csv.gz --plot plan.png
  kubectl get psvc chat -o yaml | penstock plan -f - --rate 20 --input-tokens 1155 --output-tokens 211
  penstock plan -f classifier.yaml --rate 300 --balancer least-requests

\b
JSON is one object: rate_per_second, replicas, replicas_with_spare, binding, utilization,
  ttft_seconds, tpot_seconds, latency_seconds {mean,p50,p90,p95,p99}, max_rate_per_replica,
  saturation_rate_per_replica, running_limit, queue_limit, kv_concurrency, shed_fraction,
  engine_flags [..], cost_per_million_tokens, cost_per_hour.
Percentiles, utilization and shed_fraction are for `replicas`, without spare; rates per second. Costs are
for replicas_with_spare, which is what is paid; a million tokens means output tokens of admitted requests.
binding is the objective (ttft.p95), saturation, availability or minimum that one replica fewer
would break, or that this count breaks. Without routing.type Envoy nobody is turned away: availability
does not bind, and shed_fraction is what admission would shed. What does not apply is null; so are the
latencies of a saturated pool, which have no bound. engine_flags limit one replica where no gateway does:
c* running, 1.5 x (c* + q) held; none for request/response services.

\b
Exit status: 0 planned; 2 the input cannot be planned; 3 no replica count keeps an objective;
130 Ctrl-C."""
)
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="YAML with an InferenceService (the first one counts); - reads standard input.",
)
@click.option("--rate", type=PositiveNumber(0, min_open=True), help="Requests per second.")
@click.option("--input-tokens", type=PositiveNumber(1), help="Mean prompt length; lengths are log-normal.")
@click.option(
    "--output-tokens", type=PositiveNumber(1), help="Mean answer length; independent of the prompt's."
)
@click.option(
    "--length-scv",
    type=PositiveNumber(0, 100),
    help="Squared coefficient of variation of both lengths, variance / mean^2; 0: all alike.  [default: 1]",
)
@click.option(
    "--trace",
    "trace_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="csv or csv.gz with columns arrival_s, input_tokens, output_tokens; planned for its busiest 60 s.",
)
@click.option(
    "--arrivals",
    type=click.Choice([each.value for each in Arrivals]),
    help="How requests are spaced; constant: evenly, as some load generators do.  [default: poisson]",
)
@click.option("--balancer", type=click.Choice(list(BALANCERS)), help="Default: what the file says.")
@click.option(
    "--replicas",
    type=click.IntRange(1, 10_000),
    help="Evaluate this count (without spare) instead of choosing.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or programs.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw percentiles against replicas and load as PNG; needs the extra penstock[plot].",
)
def plan(
    *,
    path: Path,
    rate: float | None,
    input_tokens: float | None,
    output_tokens: float | None,
    length_scv: float | None,
    trace_path: Path | None,
    arrivals: str | None,
    balancer: str | None,
    replicas: int | None,
    output: str,
    plot_path: Path | None,
) -> None:
    """Plan capacity without a cluster.

    How many replicas keep the objectives of an InferenceService at a load, what binds, what it costs.
    """
    try:
        if plot_path is not None:
            require_matplotlib()
        spec = read_service(path)
        require_offline_timing(spec)
        lengths = (input_tokens, output_tokens, length_scv)
        with Console(stderr=True).status("planning") as progress:  # shown on a terminal only
            traffic = _traffic(spec, rate, lengths, trace_path, arrivals)
            question = ask(spec, traffic, None if balancer is None else BALANCERS[balancer])
            answer = make_plan(question, replicas)
            neighbours = neighbour_outcomes(answer) if output == "table" else []
            if plot_path is not None:
                progress.update("drawing")
                plot_plan(answer, plot_path)
        _print(answer, neighbours, output)
    except KeyboardInterrupt:
        # Nothing runs beside this process: there is nothing to end but ourselves.
        click.echo("interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None


def _print(answer: Plan, neighbours: list[Outcome], output: str) -> None:
    if output == "json":
        sys.stdout.buffer.write(
            orjson.dumps(answer.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        sys.stdout.flush()
    else:
        print_plan(answer, neighbours, Console())
    for warning in warnings(answer):
        click.echo(f"Warning: {warning}", err=True)


def _traffic(
    spec: ServiceSpec,
    rate: float | None,
    lengths: tuple[float | None, float | None, float | None],
    trace_path: Path | None,
    arrivals: str | None,
) -> Traffic:
    """Return the load that the options describe; raises UsageError or PlanFault."""
    names = ("--input-tokens", "--output-tokens", "--length-scv")
    given = [name for name, value in zip(names, lengths, strict=True) if value is not None]
    has_tokens = spec.engine.service_time is None
    if trace_path is not None:
        others = (("--rate", rate), ("--arrivals", arrivals))
        also = [name for name, value in others if value is not None] + given
        if also:
            raise click.UsageError(f"--trace has arrivals and lengths in it: leave out {', '.join(also)}")
        return _traffic_of_trace(trace_path, has_tokens=has_tokens)
    if rate is None:
        raise click.UsageError("no load: write --rate 20 (requests per second), or --trace FILE")
    process = Arrivals(arrivals or Arrivals.POISSON)
    spaced = "Poisson arrivals" if process is Arrivals.POISSON else "evenly spaced arrivals"
    if not has_tokens:
        if given:
            leave = ", ".join(given)
            raise click.UsageError(
                f"a request/response service (serviceTime) has no tokens: leave out {leave}"
            )
        return Traffic(rate, None, process, describe_load(rate, spaced))
    prompt, answer, scv = lengths
    if prompt is None or answer is None:
        missing = " and ".join(
            name for name, value in zip(names, (prompt, answer), strict=False) if value is None
        )
        raise click.UsageError(
            f"{missing} missing: write the mean lengths, for example --input-tokens 1155 "
            "--output-tokens 211, or --trace FILE"
        )
    spread = 1.0 if scv is None else scv
    words = f"{prompt:,.0f} in, {answer:,.0f} out tokens (log-normal, SCV {spread:g})"
    return Traffic(
        rate, TrafficShape.lognormal(prompt, answer, spread), process, describe_load(rate, spaced, words)
    )


def _traffic_of_trace(path: Path, *, has_tokens: bool) -> Traffic:
    trace = trace_of(path)
    window = busiest_window(trace, path)
    rate = window.rate_per_second
    words = f"the busiest {window.length_seconds:.3g} s of {path.name}, from {window.start_seconds:,.0f} s"
    if window.length_seconds < WINDOW_SECONDS:
        click.echo(
            f"Warning: {path} spans {window.length_seconds:.3g} s, less than {WINDOW_SECONDS:g} s: "
            "all of it was taken",
            err=True,
        )
    if has_tokens:
        shape = TrafficShape.from_lengths(window.trace.inputs.tolist(), window.trace.outputs.tolist())
        words = describe_load(rate, words, f"{shape.input_mean:,.0f} in, {shape.output_mean:,.0f} out tokens")
        return Traffic(rate, shape, Arrivals.POISSON, words, trace)
    if window.dispersion > _BURSTY:
        click.echo(
            f"Warning: the counts per second of that minute vary {window.dispersion:.3g} times as much as "
            "Poisson's: bursts wait longer than the plan says",
            err=True,
        )
    return Traffic(rate, None, Arrivals.POISSON, describe_load(rate, words))
