"""Cost at matched attainment: each policy's own knob swept, its frontier, and where it meets ours.

A frontier is the lower hull of (attainment, replica-hours) over a policy's settings: what is dearer and
worse than another of its settings nobody would choose. Between two settings cost is taken on the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bench.policies_run import Result


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
    """Draw attainment over replica-hours, ours last and thick."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5.5))
    for name, results in sorted(by_policy.items(), key=lambda item: item[0] == "penstock"):
        chosen = frontier(results)
        ours, bound = name == "penstock", name == "clairvoyant"
        axes.plot(
            [each.replica_hours for each in chosen],
            [100 * each.attainment for each in chosen],
            marker="*" if bound else "o",
            markersize=12 if bound else 6 if ours else 4,
            linewidth=2.6 if ours else 1.0,
            color="black" if bound else "tab:red" if ours else None,
            alpha=1.0 if ours or bound else 0.75,
            label=chosen[0].title,
        )
    axes.set_xlabel("replica-hours")
    axes.set_ylabel("requests within both objectives, %")
    axes.set_ylim(bottom=60.0, top=100.5)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right", ncols=2)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
