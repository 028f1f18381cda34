"""``penstock load``: open-loop load and what its clients saw."""

from __future__ import annotations

import importlib.util
import math
import os
import random
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import numpy as np
import orjson

from penstock.cli.duration import DURATION
from penstock.cli.load_session import run_load
from penstock.cli.load_table import print_load_table
from penstock.cli.positive_number import PositiveNumber
from penstock.engine.arrivals import (
    ArrivalProcess,
    Lengths,
    PlannedRequest,
    RateStep,
    from_trace,
    parse_rates,
    scheduled,
)
from penstock.engine.lag import MAX_LAG_RATIO
from penstock.engine.load_generator import LoadLimits, LoadResult
from penstock.engine.load_plot import plot_load
from penstock.engine.load_report import LoadObjectives, Trust, summarize
from penstock.engine.open_files import raise_file_limit
from penstock.engine.openai_api import Endpoint
from penstock.engine.stream_client import Connections, RequestShape
from penstock.engine.targets import Balancing, Targets
from penstock.traces.fault import TraceFault

DEFAULT_DURATION_SECONDS = 60.0
NOT_TRUSTED = 4
INTERRUPTED = 130
TERMINATED = 143


def _rates(_: click.Context, __: click.Parameter, value: str | None) -> tuple[RateStep, ...] | None:
    try:
        return None if value is None else parse_rates(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _urls(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.BadParameter(f"{value!r}: write it as http://127.0.0.1:8000")
    return tuple(value.rstrip("/") for value in values)


@click.command(
    epilog="""\b
Examples:
  penstock load --url http://127.0.0.1:8000 --rate 5 --duration 60s --input-tokens 1000 --output-tokens 200
  penstock load --url http://127.0.0.1:8000 --rate 2:60,6:120 --slo-ttft 500ms --slo-tpot 50ms -o json
  penstock load --url-file ready-replicas.txt --balancer least-requests --trace trace.csv.gz --duration 10m

\b
JSON keys (times in seconds, ratios in 0..1, null where nothing was measured):
  period_seconds, interrupted, requests{due,completed,failed}, errors{KIND: count},
  offered_per_second, completed_per_second, input_tokens_per_second, output_tokens_per_second,
  ttft_seconds, inter_token_seconds, tpot_seconds, latency_seconds {mean,p50,p90,p95,p99,max},
  slo{ttft_objective_seconds,tpot_objective_seconds,ttft_attained_ratio,tpot_attained_ratio,
  attained_ratio}, requests_by_url{URL: count}, send_lag_seconds{mean..max}, engine_lag_ratio
TTFT and latency count from when a request was due. TPOT is per request, (last - first) / (tokens - 1);
inter-token times are the single gaps. Attainment is of all requests due: an error misses. Completions
and tokens a second are what arrived within the period: requests of the warm-up count, the drain does not.

\b
Exit status: 0 measured; 4 measured, but the machine was the bottleneck, so nothing is reported;
130 Ctrl-C, after a report of what was measured so far; 143 SIGTERM, which sends no more and reports after
the last answers."""
)
@click.option("--url", "urls", multiple=True, callback=_urls, help="Base URL of a server; may be repeated.")
@click.option(
    "--url-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with one URL a line, read again as it changes.",
)
@click.option(
    "--balancer",
    type=click.Choice([balancing.value for balancing in Balancing]),
    default=Balancing.RANDOM.value,
    show_default=True,
    help="How requests are spread over several URLs (kube-proxy: random).",
)
@click.option("--rate", "rates", callback=_rates, help="Requests per second: 5, or steps as 2:60,6:120.")
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or .csv.gz with columns arrival_s, input_tokens, output_tokens.",
)
@click.option("--duration", type=DURATION, help="Default: the rate steps', the whole trace, or 60s.")
@click.option("--warmup", type=DURATION, default=0.0, help="Leave the requests due before out of the report.")
@click.option("--input-tokens", type=PositiveNumber(1, 1e6), default=500, show_default=True, help="Mean.")
@click.option("--output-tokens", type=PositiveNumber(1, 1e6), default=100, show_default=True, help="Mean.")
@click.option(
    "--length-scv",
    type=PositiveNumber(0, 100),
    default=1.0,
    show_default=True,
    help="Squared coefficient of variation of the (log-normal) lengths; 0: constant.",
)
@click.option(
    "--arrivals",
    type=click.Choice([process.value for process in ArrivalProcess]),
    default=ArrivalProcess.POISSON.value,
    show_default=True,
    help="How arrivals of --rate are spaced.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of arrivals, lengths and balancer."
)
@click.option(
    "--endpoint",
    type=click.Choice(["completions", "chat"]),
    default="completions",
    show_default=True,
    help="Which API to call.",
)
@click.option(
    "--connections",
    type=click.Choice([each.value for each in Connections]),
    default=Connections.KEPT.value,
    show_default=True,
    help="new: one for each request, as of many clients; kept ones stay with the replicas of their time.",
)
@click.option(
    "--model", "model_name", default="", help="Model to ask for; default: the first that is served."
)
@click.option("--slo-ttft", type=DURATION, help="Objective for each request's time to first token.")
@click.option("--slo-tpot", type=DURATION, help="Objective for each request's time per output token.")
@click.option("--max-in-flight", type=click.IntRange(1, 20000), default=2000, show_default=True)
@click.option("--timeout", type=DURATION, default="5m", show_default=True, help="Of one request.")
@click.option("--drain", type=DURATION, default="60s", show_default=True, help="Wait for the last answers.")
@click.option(
    "--max-send-lag",
    type=DURATION,
    default="50ms",
    show_default=True,
    help="Refuse to report above this p99.",
)
@click.option(
    "--max-engine-lag",
    type=PositiveNumber(0, 10),
    default=MAX_LAG_RATIO,
    show_default=True,
    help="Refuse to report when stand-in engines' steps end later than this share of their duration.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (PNG).")
def load(
    *,
    urls: tuple[str, ...],
    url_file: Path | None,
    balancer: str,
    rates: tuple[RateStep, ...] | None,
    trace: Path | None,
    duration: float | None,
    warmup: float,
    input_tokens: float,
    output_tokens: float,
    length_scv: float,
    arrivals: str,
    seed: int,
    endpoint: str,
    connections: str,
    model_name: str,
    slo_ttft: float | None,
    slo_tpot: float | None,
    max_in_flight: int,
    timeout: float,
    drain: float,
    max_send_lag: float,
    max_engine_lag: float,
    output: str,
    plot: Path | None,
) -> None:
    """Send open-loop load and report percentiles, SLO attainment and errors."""
    if not urls and url_file is None:
        raise click.UsageError("say where to send the load: --url http://127.0.0.1:8000, or --url-file FILE")
    if (rates is None) == (trace is None):
        raise click.UsageError("give either --rate or --trace")
    if plot is not None:
        _check_picture(plot)
    raise_file_limit()
    seconds = duration if duration is not None else _default_duration(rates)
    if rates is not None:
        plan = scheduled(
            rates,
            Lengths(input_tokens, output_tokens, length_scv),
            process=ArrivalProcess(arrivals),
            duration_seconds=seconds,
            chance=np.random.default_rng(seed),
        )
    else:
        assert trace is not None  # noqa: S101 - checked above
        requests = _read_trace(trace, seconds)
        plan = iter(requests)
        seconds = min(seconds, requests[-1].at_seconds if requests else 0.0)
    if warmup and warmup >= seconds:
        raise click.UsageError(f"--warmup must be shorter than the load, which takes {seconds:g} s")
    limits = LoadLimits(
        duration_seconds=seconds,
        max_in_flight=max_in_flight,
        request_timeout_seconds=timeout,
        drain_seconds=drain,
        warmup_seconds=warmup,
    )
    targets = Targets(
        urls,
        file=url_file,
        balancing=Balancing(balancer),
        chance=random.Random(seed),  # noqa: S311
    )
    if url_file is not None:
        _read_first(targets, url_file)
    path = Endpoint.CHAT if endpoint == "chat" else Endpoint.COMPLETIONS
    shape = RequestShape(path, model_name, connections=Connections(connections))
    result = run_load(targets, shape, limits, plan, seed=seed)
    objectives = LoadObjectives(slo_ttft, slo_tpot)
    report = summarize(result, limits, objectives)
    objection = Trust(max_send_lag, max_engine_lag).objection(result)
    if objection:
        click.echo(f"Not reported: {objection}.", err=True)
    elif output == "json":
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        print_load_table(report)
    if plot is not None:
        _plot(result, objectives, plot)
    if objection:
        sys.exit(NOT_TRUSTED)
    if result.interrupted:
        sys.exit(INTERRUPTED)
    if result.stopped_seconds is not None:
        sys.exit(TERMINATED)
    if not result.sent and url_file is not None and not url_file.exists():
        raise click.ClickException(
            f"{url_file} does not exist: no request had a target\nFix: write one URL a line into it"
        )


def _default_duration(rates: tuple[RateStep, ...] | None) -> float:
    if rates is None:
        return math.inf
    total = sum(step.seconds for step in rates)
    return total if math.isfinite(total) else DEFAULT_DURATION_SECONDS


def _read_first(targets: Targets, file: Path) -> None:
    """Read the URLs once, to say what is wrong while somebody looks; a file may still come."""
    try:
        targets.refresh()
    except (OSError, UnicodeDecodeError) as error:
        why = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise click.ClickException(
            f"{file} cannot be read: {why}\nFix: write one URL a line into it"
        ) from error
    if not file.exists():
        click.echo(
            f"Warning: {file} does not exist yet: until it does, nothing is sent to its URLs", err=True
        )


def _read_trace(trace: Path, duration_seconds: float) -> list[PlannedRequest]:
    try:
        return list(from_trace(trace, duration_seconds=duration_seconds))
    except TraceFault as fault:
        raise click.ClickException(str(fault)) from fault


def _check_picture(path: Path) -> None:
    """Say before the load what would keep its picture from being written."""
    if importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--plot needs matplotlib: pip install 'penstock[plot]'")
    if not path.parent.is_dir():
        raise click.ClickException(f"cannot write {path}: {path.parent} is no directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.ClickException(f"cannot write {path}: no permission")


def _plot(result: LoadResult, objectives: LoadObjectives, path: Path) -> None:
    try:
        plot_load(result.records, objectives, path)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or error}") from error
    except (ImportError, ValueError) as error:  # matplotlib does not load, or knows no such suffix
        raise click.ClickException(f"cannot write {path}: {error}") from error
