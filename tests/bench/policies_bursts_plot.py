"""One bar a setup: who answered within both objectives, who did not, and the replica-hours beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.drawing import file_pyplot
from bench.policies_run import Result

SHARES = (
    ("own model, within SLO", "#2a7f62"),
    ("fallback, within SLO", "#8fc1a9"),
    ("429 at once", "#c9c9c9"),
    ("answered too late", "#c8553d"),
)


def shares_of(result: Result) -> tuple[float, float, float, float]:
    """Return the shares of all requests in the order of `SHARES`; they add up to 1."""
    late = 1.0 - result.attainment - result.by_fallback - result.shed
    return result.attainment, result.by_fallback, result.shed, max(0.0, late)


def plot_shares(path: Path, title: str, results: Mapping[str, Result]) -> None:
    """Draw the setups from above, in their order."""
    plt = file_pyplot()
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(results) + 1.6))
    names = list(results)
    left = [0.0] * len(names)
    for number, (label, color) in enumerate(SHARES):
        widths = [100 * shares_of(results[name])[number] for name in names]
        axes.barh(names, widths, left=left, color=color, label=label, height=0.72)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    for name, each in results.items():
        paid = each.replica_hours + each.fallback_hours
        axes.text(101, name, f"{paid:.1f} h", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("of all requests, %; beside: replica-hours, the fallback's included")
    axes.set_title(title, fontsize=10, pad=26)
    axes.margins(y=0.01)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
