"""A picture of a load over time: offered requests, errors, and TTFT and TPOT against their objectives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from penstock.engine.load_report import LoadObjectives
from penstock.engine.stream_client import OK, RequestRecord


def plot_load(records: list[RequestRecord], objectives: LoadObjectives, path: Path) -> None:
    """Write the picture; raises ImportError where matplotlib (extra ``plot``) is not installed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    rate, ttft, tpot = figure.subplots(3, 1, sharex=True)
    due = np.array([record.planned.at_seconds for record in records])
    failed = np.array([r.planned.at_seconds for r in records if r.outcome != OK])
    end = max(due.max(initial=0.0), 1.0)
    width = max(1.0, end / 60)
    edges = np.arange(0, end + width, width)
    rate.stairs(np.histogram(due, edges)[0] / width, edges, label="offered")
    rate.stairs(np.histogram(failed, edges)[0] / width, edges, color="tab:red", label="failed")
    rate.set_ylabel("requests/s")
    rate.legend(loc="upper left")
    for axes, name, objective in (
        (ttft, "ttft_seconds", objectives.ttft_seconds),
        (tpot, "tpot_seconds", objectives.tpot_seconds),
    ):
        points = [(r.planned.at_seconds, getattr(r, name)) for r in records if r.outcome == OK]
        known = [(at, value * 1e3) for at, value in points if value is not None]
        axes.plot(*zip(*known, strict=True) if known else ([], []), ".", markersize=3)
        if objective is not None:
            axes.axhline(objective * 1e3, color="tab:red", linestyle="--", label="objective")
            axes.legend(loc="upper left")
        axes.set_ylabel(f"{name.removesuffix('_seconds').upper()} (ms)")
        axes.set_ylim(bottom=0)
    tpot.set_xlabel("time (s)")
    figure.savefig(path, dpi=120)
