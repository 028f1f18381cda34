"""Evidence over time of four simulated canaries, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.canary_ours import LIMITS, evidence
from bench.canary_streams import SCRAPE_SECONDS, SCRAPES, cells, simulate
from bench.drawing import file_pyplot
from penstock.policy.canary_thresholds import thresholds

RATE, LINES, RUNS = 5.0, 12, 200
SHOWN = ("null waves", "p95 +20 %", "errors .1->1 %", "late p95 +50 %")
TITLES = ("as good as the stable arm", "p95 TTFT +20 %", "errors 0.1 % to 1 %", "p95 +50 % after 10 minutes")
AGAINST, FOR = "#b3322c", "#2b6cb0"


def plot(path: Path, seed: int) -> None:
    """Draw log10 evidence against (to its threshold) and for (to its own) of a dozen canaries each."""
    pyplot = file_pyplot()
    decides = thresholds(LIMITS)
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 6.4), sharex=True, layout="constrained")
    minutes = (np.arange(SCRAPES) + 1) * SCRAPE_SECONDS / 60
    for axis, name, title in zip(axes.flat, SHOWN, TITLES, strict=True):
        cell = next(each for each in cells() if each.name == name and each.rate == RATE)
        traces = evidence(simulate(cell, RUNS, seed))
        errors = "errors" in name
        against = traces.errors_against if errors else traces.latency_against
        in_favour = traces.errors_for if errors else traces.latency_for
        bar = decides.errors if errors else decides.latency
        shown = minutes <= (20 if cell.onset else 15)
        for run in range(LINES):
            axis.plot(minutes[shown], against[shown, run] / np.log(10), color=AGAINST, lw=0.9, alpha=0.7)
            axis.plot(minutes[shown], in_favour[shown, run] / np.log(10), color=FOR, lw=0.9, alpha=0.5)
        axis.axhline(bar / np.log(10), color=AGAINST, ls="--", lw=1)
        axis.axhline(decides.promotion / np.log(10), color=FOR, ls=":", lw=1)
        axis.set_title(f"{title} ({'errors' if errors else 'TTFT'})", fontsize=10, loc="left")
        axis.set_ylim(-2.2, 4.2)
        axis.set_ylabel("evidence, log10")
        axis.grid(visible=True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        if cell.onset:
            axis.axvline(10, color="0.5", lw=1)
            axis.text(10.2, -1.9, "turns bad", fontsize=8, color="0.35")
    axes[0, 0].text(0.2, bar / np.log(10) + 0.12, "rollback", color=AGAINST, fontsize=8)
    axes[0, 0].text(
        14.8, decides.promotion / np.log(10) - 0.35, "promotion", color=FOR, fontsize=8, ha="right"
    )
    for axis in axes[1]:
        axis.set_xlabel("minutes under test")
    figure.suptitle(
        f"Evidence on {LINES} canaries each at {RATE:g} requests/s: against (red, solid), for (blue)",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    pyplot.close(figure)
