"""Figures of autoscalers side by side: replica-seconds, attainment, scale events; means and ranges.

    replica-seconds = integral of the Deployment's status.replicas over the load, starting pods included

Attainment is the load generator's: the share of all requests due that met both objectives, so that a failed
request met none. A run that the machine could not bear has no figures and is in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Seen:
    """A Deployment at one time: what was asked for, pods there are, pods that are ready."""

    at_seconds: float
    target: int
    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class Period:
    """The time of the load, on the clock of what was seen."""

    begin_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One system under one load; `load` is the report of `penstock load`, None where it refused (`void`)."""

    system: str
    number: int
    period: Period
    seen: tuple[Seen, ...]
    load: dict[str, Any] | None
    void: str = ""

    @property
    def replica_seconds(self) -> float:
        """Replica-seconds over the load."""
        return replica_seconds(self.seen, self.period)

    @property
    def scale_events(self) -> tuple[int, int]:
        """How often the target went up and down."""
        return scale_events(self.seen, self.period)

    @property
    def most_replicas(self) -> int:
        """The most replicas there were."""
        return max(each.replicas for each in within(self.seen, self.period))


def within(seen: Sequence[Seen], period: Period) -> list[Seen]:
    """Return what was seen in a period, with the state it began with.

    Raises ValueError when nothing is known of the beginning: no figure is better than one of a part.
    """
    before = [each for each in seen if each.at_seconds <= period.begin_seconds]
    if not before:
        raise ValueError("the Deployment was not seen before the load began")
    return [
        before[-1],
        *(each for each in seen if period.begin_seconds < each.at_seconds < period.end_seconds),
    ]


def replica_seconds(seen: Sequence[Seen], period: Period) -> float:
    """Return the integral of `replicas` over a period; raises ValueError as `within`."""
    known = within(seen, period)
    times = [period.begin_seconds, *(each.at_seconds for each in known[1:]), period.end_seconds]
    return math.fsum(
        each.replicas * (end - begin) for each, (begin, end) in zip(known, pairwise(times), strict=True)
    )


def scale_events(seen: Sequence[Seen], period: Period) -> tuple[int, int]:
    """Return how often the target rose and fell in a period; raises ValueError as `within`."""
    steps = [after.target - before.target for before, after in pairwise(within(seen, period))]
    return sum(step > 0 for step in steps), sum(step < 0 for step in steps)


def _measured(value: float | None) -> float:
    return math.nan if value is None else value


def attained_percent(load: dict[str, Any]) -> float:
    """Return the share of all requests that met both objectives, in percent."""
    return 100.0 * float(load["slo"]["attained_ratio"])


FIGURES: dict[str, tuple[str, Callable[[Run, dict[str, Any]], float]]] = {
    "SLO met, %": (".1f", lambda _, load: attained_percent(load)),
    "p95 TTFT, s": (".2f", lambda _, load: _measured(load["ttft_seconds"]["p95"])),
    "p95 TPOT, ms": (".0f", lambda _, load: 1e3 * _measured(load["tpot_seconds"]["p95"])),
    "replica-s": (".0f", lambda run, _: run.replica_seconds),
    "avg": (
        ".2f",
        lambda run, _: run.replica_seconds / (run.period.end_seconds - run.period.begin_seconds),
    ),
    "max": (".0f", lambda run, _: float(run.most_replicas)),
    "ups": (".0f", lambda run, _: float(run.scale_events[0])),
    "downs": (".0f", lambda run, _: float(run.scale_events[1])),
    "failed": (".0f", lambda _, load: float(load["requests"]["failed"])),
}


def values(runs: Sequence[Run], system: str, figure: str) -> list[float]:
    """Return a figure of a system's runs, without those that could not be measured."""
    _, read = FIGURES[figure]
    return [read(run, run.load) for run in runs if run.system == system and run.load is not None]


def spread(found: Sequence[float], layout: str) -> str:
    """Return mean and range: `98.1 (97.0 to 99.2)`; `-` when nothing was measured."""
    if not found:
        return "-"
    mean = format(math.fsum(found) / len(found), layout)
    return mean if len(found) == 1 else f"{mean} ({min(found):{layout}} to {max(found):{layout}})"


def verdict(runs: Sequence[Run], ours: str, peer: str) -> str:
    """Return one sentence: cost as a ratio and attainment as a difference, of means."""
    cost, attained = (
        [values(runs, each, figure) for each in (ours, peer)] for figure in ("replica-s", "SLO met, %")
    )
    if not all((*cost, *attained)):
        return f"No verdict: {peer if cost[0] else ours} has no run that could be measured."
    ratio, difference = _mean(cost[0]) / _mean(cost[1]), _mean(attained[0]) - _mean(attained[1])
    return (
        f"{ours} used {ratio:.2f} times the replica-seconds of {peer} and met the objectives for "
        f"{abs(difference):.1f} points {'more' if difference >= 0 else 'fewer'} of the requests."
    )


def print_runs(console: Console, runs: Sequence[Run]) -> None:
    """Print one row a run."""
    table = Table("run", "system", box=None, pad_edge=False)
    for name in FIGURES:
        table.add_column(name, justify="right")
    for run in runs:
        load = run.load
        cells = [
            format(read(run, load), layout) if load is not None else "-" for layout, read in FIGURES.values()
        ]
        table.add_row(str(run.number), run.system, *cells)
    console.print(table)
    for run in runs:
        if run.void:
            console.print(f"run {run.number}, {run.system}: {run.void}")


def print_summary(console: Console, runs: Sequence[Run], ours: str, peer: str) -> None:
    """Print mean and range of each figure side by side, and the sentence."""
    table = Table("mean (range)", box=None, pad_edge=False)
    for system in (ours, peer):
        table.add_column(system, justify="right")
    for name, (layout, _) in FIGURES.items():
        table.add_row(name, *(spread(values(runs, system, name), layout) for system in (ours, peer)))
    console.print(table)
    console.print(verdict(runs, ours, peer))


def _mean(found: Sequence[float]) -> float:
    return math.fsum(found) / len(found)
