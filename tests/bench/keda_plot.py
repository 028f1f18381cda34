"""The load and the replicas of stored runs over time, one picture a system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.drawing import file_pyplot
from bench.keda_report import Period, Run, Seen, spread, values, within
from bench.keda_systems import KEDA, PENSTOCK, Trial

COLORS = {KEDA.name: "#b3322c", PENSTOCK.name: "#2b6cb0"}


def stored_runs(path: Path) -> tuple[list[Run], Trial]:
    """Return the runs of a runs.jsonl and what they had in common. Raises OSError, ValueError."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if not lines:
        raise ValueError(f"{path} is empty")
    return [_run(line) for line in lines], Trial(**lines[0]["trial"])


def _run(line: dict[str, Any]) -> Run:
    seen = tuple(Seen(**each) for each in line["seen"])
    return Run(line["system"], line["number"], Period(**line["period"]), seen, line["load"], line["void"])


def plot(runs: list[Run], trial: Trial, path: Path) -> None:
    """Draw the pods there were (solid) and the ready ones (dotted) of each run above the load."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(2, 1, figsize=(10, 5.6), sharex=True, sharey=True, layout="constrained")
    edges, rates = [0.0], [trial.steps[0][0]]
    for rate, seconds in trial.steps:
        edges.append(edges[-1] + seconds)
        rates.append(rate)
    for axis, system in zip(axes, COLORS, strict=True):
        load = axis.twinx()
        load.fill_between(edges, rates, step="pre", color="0.9")
        load.set_ylabel("requests/s", color="0.5")
        load.set_ylim(0, 14)
        axis.set_zorder(load.get_zorder() + 1)
        axis.patch.set_visible(False)
        for run in (each for each in runs if each.system == system):
            known = within(run.seen, run.period)
            times = [max(each.at_seconds - run.period.begin_seconds, 0.0) for each in known]
            last = [run.period.end_seconds - run.period.begin_seconds]
            for counts, style in (
                ([each.replicas for each in known], "-"),
                ([each.ready for each in known], ":"),
            ):
                axis.step(
                    times + last, counts + counts[-1:], style, where="post", color=COLORS[system], alpha=0.7
                )
        found = spread(values(runs, system, "SLO met, %"), ".1f")
        paid = spread(values(runs, system, "replica-s"), ".0f")
        axis.set_title(f"{system}: SLO met {found} %, {paid} replica-seconds", fontsize=10, loc="left")
        axis.set_ylim(0, 7)
        axis.set_ylabel("replicas")
        axis.spines[["top"]].set_visible(False)
    axes[-1].set_xlabel("seconds; solid: pods there are, dotted: pods that are ready")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)
