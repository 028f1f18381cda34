"""``penstock simulate``: a trace against scaling policies, in a simulated fleet."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from penstock.cli.duration import DURATION
from penstock.cli.plan_fault import PlanFault
from penstock.cli.plan_service import read_service
from penstock.cli.positive_number import PositiveNumber
from penstock.cli.simulate_output import currency_of, facts_of, print_results
from penstock.cli.simulate_policies import Asked, build, policies_of
from penstock.cli.simulate_question import Conditions, scenario_of
from penstock.cli.simulate_window import Window
from penstock.model.spec import ServiceSpec

if TYPE_CHECKING:
    from penstock.sim.figures import Figures
    from penstock.sim.scenario import Scenario

INTERRUPTED = 130


@click.command(
    epilog="""\b
Examples:
  penstock simulate -f service.yaml --trace day.csv.gz --policy penstock,hpa-queue,keda
  penstock simulate -f service.yaml --trace day.csv.gz --policy penstock,static-peak,clairvoyant \\
      --from 8h --for 4h --startup 5m --report report.html
  penstock simulate -f service.yaml --trace t.csv --policy hpa-queue:queue=0.5,hpa-queue:queue=2 -o json
  penstock simulate -f service.yaml --trace t.csv --speed-up 2 --profile llama-3.1-8b-h100

\b
All policies get the same requests and the same luck with balancing for a seed (start-ups are drawn as each
asks for them), and see only what Prometheus would show. Policies: docs/simulation.md; a setting is written
name:setting=value. `penstock` runs the operator's own deciders with the file's objectives and replicas:
what it expects of a start-up is initialStartup, what happens is --startup.
Where the file has routing.type Envoy and admission enforced, `penstock` decides the limit at every tick;
the one of the trace's mean request holds under all other policies. Not simulated of the file: classes,
fallback (docs/bursts.md has a command that does), canary.
A request counts as good when its TTFT and TPOT keep the objectives of the highest percentile given.

\b
Exit status: 0 simulated; 2 the input cannot be simulated; 130 Ctrl-C."""
)
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="YAML with an InferenceService (the first one counts); - reads standard input.",
)
@click.option(
    "--trace",
    "trace_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="csv or csv.gz with columns arrival_s, input_tokens, output_tokens.",
)
@click.option(
    "--policy",
    "policies",
    default="penstock,hpa-queue,keda,static-peak",
    show_default=True,
    help="Policies by name, separated by commas.",
)
@click.option(
    "--from", "start", type=DURATION, default="0s", show_default=True, help="Begin there in the trace."
)
@click.option("--for", "length", type=DURATION, default=None, help="Replay that long.  [default: to the end]")
@click.option(
    "--speed-up",
    type=PositiveNumber(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Replay that many times faster: as much more load in as much less time.",
)
@click.option("--startup", type=DURATION, default=None, help="Median start-up.  [default: initialStartup]")
@click.option("--startup-p90", type=DURATION, default=None, help="Its p90.  [default: always the median]")
@click.option(
    "--failed-starts",
    type=PositiveNumber(0, 90),
    default=0.0,
    show_default=True,
    help="Percent of starts that fail and begin again.",
)
@click.option(
    "--initial",
    type=click.IntRange(1),
    default=None,
    help="Replicas at the start.  [default: what the first 5 minutes need]",
)
@click.option("--profile", default=None, help="Engine profile instead of the file's.")
@click.option(
    "--scrape-interval", type=PositiveNumber(1, 300), default=15.0, show_default=True, help="Seconds."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of balancing and start-ups."
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
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a self-contained HTML page with plots.",
)
def simulate(
    *,
    path: Path,
    trace_path: Path,
    policies: str,
    start: float,
    length: float | None,
    speed_up: float,
    startup: float | None,
    startup_p90: float | None,
    failed_starts: float,
    initial: int | None,
    profile: str | None,
    scrape_interval: float,
    seed: int,
    output: str,
    report_path: Path | None,
) -> None:
    """Replay a trace against scaling policies in a simulated fleet.

    What each would have cost, and how many requests would have kept the objectives.
    """
    require_numba()
    window = Window(start, length, speed_up)
    conditions = Conditions(
        profile_name=profile,
        startup_seconds=startup,
        startup_p90_seconds=startup_p90,
        failed_ratio=failed_starts / 100.0,
        initial_replicas=initial,
        scrape_interval_seconds=scrape_interval,
        rate_window_seconds=max(60.0, 4 * scrape_interval),
    )
    try:
        asked = policies_of(policies)
        spec = read_service(path)
        with Console(stderr=True).status("reading the trace") as progress:  # shown on a terminal only
            scenario = scenario_of(spec, trace_path, window, conditions)
            results = []
            for number, each in enumerate(asked, start=1):
                count = f"{scenario.arrivals_seconds.size:,} requests"
                progress.update(f"simulating {each.text} ({number} of {len(asked)}): {count}")
                results.append(_run(each, spec, scenario, seed))
            if report_path is not None:
                progress.update("drawing")
                _write_report(report_path, spec, scenario, results, seed)
        print_results(spec, scenario, results, seed, output)
    except KeyboardInterrupt:
        # Nothing runs beside this process: there is nothing to end but ourselves.
        click.echo("interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None


def require_numba() -> None:
    """Raise PlanFault where the simulation cannot be compiled."""
    if importlib.util.find_spec("numba") is None:
        raise PlanFault("the simulation needs numba", "pip install 'penstock[sim]'")


def _run(asked: Asked, spec: ServiceSpec, scenario: Scenario, seed: int) -> Figures:
    from penstock.sim.figures import figures_of
    from penstock.sim.simulate import simulate as run

    cost = None if spec.cost is None else spec.cost.per_replica_hour
    return figures_of(scenario, asked.text, run(scenario, build(asked, spec, scenario), seed), cost)


def _write_report(
    path: Path, spec: ServiceSpec, scenario: Scenario, results: Sequence[Figures], seed: int
) -> None:
    from penstock.sim.report import report

    title = f"Scaling policies on {scenario.name}"
    page = report(title, facts_of(spec, scenario, seed), scenario, results, currency_of(spec))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise PlanFault(f"{path} cannot be written: {error.strerror}", "give another --report") from error
