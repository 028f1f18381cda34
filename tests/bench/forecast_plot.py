"""Coverage of the demand bound on each trace, beside what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.drawing import file_pyplot

COLORS = ("#8fc1a9", "#2a7f62", "#1f5fa8")
GOAL, MISSED = "#e8eef5", "#c8553d"


@dataclass(frozen=True, slots=True)
class Coverage:
    """One bound on one trace: the share of ticks it held, and the least and most that meet the goal."""

    name: str
    lead_seconds: float
    covered: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        """Whether it is within its goal."""
        return self.least <= self.covered <= self.most


def plot_coverage(path: Path, found: Sequence[Coverage], aim: float) -> None:
    """Draw one line a trace, one point a lead time; what misses its goal is ringed."""
    plt = file_pyplot()
    names = list(dict.fromkeys(each.name for each in found))
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(names) + 1.4), layout="constrained")
    for name in names:
        first = next(each for each in found if each.name == name)
        width = min(1.0, first.most) - first.least
        axes.barh(name, width, left=first.least, height=0.8, color=GOAL, zorder=0)
    leads = sorted({each.lead_seconds for each in found})
    for lead, color in zip(leads, COLORS, strict=True):
        shown = [each for each in found if each.lead_seconds == lead]
        axes.scatter(
            [each.covered for each in shown],
            [each.name for each in shown],
            s=34,
            color=color,
            edgecolors=["none" if each.met else MISSED for each in shown],
            linewidths=1.6,
            label=f"lead time {lead:.0f} s",
            zorder=3,
        )
    axes.axvline(aim, color="0.4", linewidth=1, zorder=1)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(min(0.6, *(each.covered for each in found)) - 0.02, 1.02)
    axes.set_xlabel("share of ticks whose bound held; grey-blue: within the goal; ringed in red: missed")
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
