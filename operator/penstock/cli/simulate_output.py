"""What ``penstock simulate`` prints: facts and a table for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from penstock.model.spec import ServiceSpec

if TYPE_CHECKING:
    from penstock.sim.figures import Figures
    from penstock.sim.scenario import Scenario
_UNBOUNDED = 10_000  # columns
_SHORTEST_FOLD = 12  # letters of a name in one line


def facts_of(spec: ServiceSpec, scenario: Scenario, seed: int) -> Mapping[str, str]:
    """Return what all policies have in common, for people."""
    arrivals, slo, start_up = scenario.arrivals_seconds, scenario.slo, scenario.start_up
    end = scenario.end_seconds or float(arrivals[-1])
    p90 = "" if start_up.p90_seconds is None else f" (p90 {start_up.p90_seconds:g} s)"
    failed = f", {100 * start_up.failed_ratio:g} % fail" if start_up.failed_ratio else ""
    limit, admission = scenario.admission, "none"
    if limit is not None:
        admission = f"{limit.running_limit} running + {limit.queue_limit} queued a replica"
    lengths = f"{scenario.input_tokens.mean():,.0f} in and {scenario.output_tokens.mean():,.0f} out tokens"
    ttft, tpot = 1000 * slo.ttft_seconds, 1000 * slo.tpot_seconds
    bounds = f"{scenario.min_replicas} to {scenario.max_replicas}"
    return {
        "Service": str(spec.key),
        "Trace": f"{scenario.name}: {arrivals.size:,} requests in {end:,.0f} s, {lengths} on average",
        "Objectives": f"TTFT {ttft:g} ms and TPOT {tpot:g} ms, each request",
        "Engine": f"{scenario.profile.name}, balanced by {scenario.routing.value}",
        "Replicas": f"{bounds}, {scenario.initial_replicas} at the start",
        "Start-up": f"{start_up.median_seconds:g} s{p90}{failed}",
        "Admission": admission,
        "Seed": str(seed),
    }


def currency_of(spec: ServiceSpec) -> str:
    """Return the currency of the file's cost; empty without one."""
    return "" if spec.cost is None else spec.cost.currency


def print_results(
    spec: ServiceSpec, scenario: Scenario, results: Sequence[Figures], seed: int, output: str
) -> None:
    """Print what came out, in the form that was asked for."""
    if output == "json":
        answer = _as_json(spec, scenario, results, seed)
        sys.stdout.buffer.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
        return
    console = Console()
    for name, text in facts_of(spec, scenario, seed).items():
        console.print(f"{name + ':':<12}{text}", highlight=False, soft_wrap=True)
    console.print()
    _print_table(_table(spec, results), max(len(each.policy) for each in results), console)


def _print_table(table: Table, longest_name: int, console: Console) -> None:
    """Print the table; names give way and are folded, figures are never cut."""
    whole = Measurement.get(console, console.options.update(max_width=_UNBOUNDED), table).maximum
    least = whole - max(longest_name - _SHORTEST_FOLD, 0)
    Console(width=max(console.width, least)).print(table, crop=False)


def _table(spec: ServiceSpec, results: Sequence[Figures]) -> Table:
    """Return the figures that fit 80 columns; the page and the JSON have more percentiles."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("policy", overflow="fold")
    heads = ["in SLO\n%", "replica\nhours", "mean", "peak", "TTFT\np95 ms", "TPOT\np95 ms", "refused\n%"]
    heads += ["up/\ndown"] + ([] if spec.cost is None else [f"cost\n{currency_of(spec)}"])
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for each in results:
        cost = [] if each.cost is None else [f"{each.cost:,.2f}"]
        table.add_row(
            each.policy,
            f"{100 * each.attainment_ratio:.2f}",
            f"{each.replica_hours:,.2f}",
            f"{each.average_replicas:.2f}",
            f"{each.peak_replicas}",
            _milliseconds(each.ttft_seconds[0.95]),
            _milliseconds(each.tpot_seconds[0.95]),
            f"{100 * each.refused_ratio:.2f}",
            f"{each.ups}/{each.downs}",
            *cost,
        )
    return table


def _milliseconds(seconds: float | None) -> str:
    return "none" if seconds is None else f"{1000 * seconds:,.0f}"


def _as_json(spec: ServiceSpec, scenario: Scenario, results: Sequence[Figures], seed: int) -> dict[str, Any]:
    limit = scenario.admission
    return {
        "service": str(spec.key),
        "trace": scenario.name,
        "seed": seed,
        "requests": scenario.arrivals_seconds.size,
        "seconds": scenario.end_seconds or float(scenario.arrivals_seconds[-1]),
        "profile": scenario.profile.name,
        "ttft_objective_seconds": scenario.slo.ttft_seconds,
        "tpot_objective_seconds": scenario.slo.tpot_seconds,
        "startup_seconds": scenario.start_up.median_seconds,
        "initial_replicas": scenario.initial_replicas,
        "admission": None
        if limit is None
        else {"running_per_replica": limit.running_limit, "queued_per_replica": limit.queue_limit},
        "currency": currency_of(spec) or None,
        "policies": [_policy_json(each) for each in results],
    }


def _policy_json(each: Figures) -> dict[str, Any]:
    return {
        "policy": each.policy,
        "attainment_ratio": each.attainment_ratio,
        "replica_hours": each.replica_hours,
        "average_replicas": each.average_replicas,
        "peak_replicas": each.peak_replicas,
        "cost": each.cost,
        "refused_ratio": each.refused_ratio,
        "scale_ups": each.ups,
        "scale_downs": each.downs,
        "ttft_seconds": {f"p{round(100 * share)}": value for share, value in each.ttft_seconds.items()},
        "tpot_seconds": {f"p{round(100 * share)}": value for share, value in each.tpot_seconds.items()},
    }
