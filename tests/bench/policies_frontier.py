"""Cost at matched attainment: each policy's own knob swept, its frontier, and where it meets ours.

A frontier is the lower hull of (attainment, replica-hours) over a policy's settings: what is dearer and
worse than another of its settings nobody would choose. Between two settings cost is taken on the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.drawing import file_pyplot
from bench.policies_run import OURS, Result

# Named beside their points: colour, marker, where the name begins in points.
NAMED = {"clairvoyant": ("black", "*", -34), OURS: ("tab:red", "o", -26)}


def frontier(results: Sequence[Result]) -> list[Result]:
    """Return the settings that no other one beats in both, by rising attainment."""
    best: list[Result] = []
    for each in sorted(results, key=lambda r: (r.replica_hours, -r.attainment)):
        if not best or each.attainment > best[-1].attainment:
            best.append(each)
    return best


def cost_at(results: Sequence[Result], attainment: float) -> float | None:
    """Return the replica-hours at which a frontier reaches `attainment`; None above its best."""
    chosen = frontier(results)
    if not chosen or chosen[-1].attainment < attainment:
        return None
    if chosen[0].attainment >= attainment:
        return chosen[0].replica_hours
    for low, high in pairwise(chosen):
        if high.attainment >= attainment:
            share = (attainment - low.attainment) / (high.attainment - low.attainment)
            return low.replica_hours + share * (high.replica_hours - low.replica_hours)
    raise AssertionError("the frontier ends above the attainment asked for")


def default_cost(result: Result, attainment: float) -> float | None:
    """Return what documented defaults cost where they attain at least as much; None where they do not."""
    return result.replica_hours if result.attainment >= attainment else None


def plot_frontiers(path: Path, title: str, by_policy: dict[str, Sequence[Result]]) -> None:
    """Draw attainment over replica-hours: ours and the bound named beside their points, peers in a legend."""
    plt = file_pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    peers = [name for name in by_policy if name not in NAMED]
    for number, name in enumerate(peers):
        _draw(axes, by_policy[name], f"C{number % 10}", marker="os^D"[number // 10], markersize=4, alpha=0.7)
    for name, (color, marker, dx) in NAMED.items():
        if name in by_policy:
            last = _draw(axes, by_policy[name], color, marker=marker, markersize=9, linewidth=2, zorder=3)
            place = (last.replica_hours, 100 * last.attainment)
            axes.annotate(
                last.title, place, (dx, -16), textcoords="offset points", color=color, weight="bold"
            )
    axes.annotate(
        "better", (0.02, 0.98), (0.09, 0.91), "axes fraction", "axes fraction", color="0.4",
        arrowprops={"arrowstyle": "->", "color": "0.4"},
    )  # fmt: skip
    axes.set_xlabel("replica-hours paid")
    axes.set_ylabel("requests within both objectives, %")
    axes.set_ylim(bottom=60.0, top=101.0)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    said = "peers, each at every value of its knob"
    axes.legend(fontsize=7, loc="lower right", ncols=2, title=said, title_fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw(axes: Any, results: Sequence[Result], color: str, **style: Any) -> Result:
    """Draw one policy's frontier; return its last point."""
    chosen = frontier(results)
    hours, met = [each.replica_hours for each in chosen], [100 * each.attainment for each in chosen]
    label = None if chosen[0].policy in NAMED else chosen[0].title
    axes.plot(hours, met, color=color, label=label, **({"linewidth": 1.0} | style))
    return chosen[-1]
