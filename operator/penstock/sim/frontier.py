"""What attainment costs: one point a policy, as SVG text. Up is better served, left is cheaper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from penstock.sim.figures import Figures
from penstock.sim.plots import ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 260, 64, 150, 16, 44
_LEAST_SPAN = 1.0  # percent: closer points are as good as equal
_LINE = 13.0  # pixels between two names


def frontier(results: Sequence[Figures]) -> str:
    """Return the plot; policies that nobody serves better for less are filled."""
    most = 1.1 * max(each.replica_hours for each in results)
    worst = min(100 * each.attainment_ratio for each in results)
    low = max(0.0, math.floor(worst - 0.1 * max(_LEAST_SPAN, 100.0 - worst)))

    def place(each: Figures) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * each.replica_hours / most
        up = (100 * each.attainment_ratio - low) / (100.0 - low)
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="attainment against replica-hours" '
        'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="11">'
    ]
    parts += _frame(low, most)
    named: list[tuple[float, float]] = []
    for each in sorted(results, key=lambda one: (-one.attainment_ratio, one.replica_hours)):
        x, y = place(each)
        fill = "#1f5fa8" if _is_best(each, results) else "#fff"
        label = y + 4
        while any(abs(label - taken) < _LINE and abs(x - beside) < RIGHT for beside, taken in named):
            label += _LINE
        named.append((x, label))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="#1f5fa8" stroke-width="1.5"/>'
            f'<text x="{x + 9:.1f}" y="{label:.1f}" fill="#222">{escape(each.policy)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _is_best(each: Figures, results: Sequence[Figures]) -> bool:
    """Whether no other policy serves at least as well for less."""
    return not any(
        other.attainment_ratio >= each.attainment_ratio and other.replica_hours < each.replica_hours
        for other in results
    )


def _frame(low: float, most: float) -> list[str]:
    """Draw lines across with their percentages, and replica-hours below."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for percent in ticks(low, 100.0):
        y = bottom - (bottom - TOP) * (percent - low) / (100.0 - low)
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{percent:.4g} %</text>'
        )
    for hours in ticks(0.0, most):
        x = LEFT + (right - LEFT) * hours / most
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#eee"/>'
            f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#444">{hours:.3g}</text>'
        )
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" fill="#444">replica-hours</text>')
    return parts
