"""Line plots as SVG text: no library, no script, the same in a browser, in print and in a mail.

An `Axes` maps values to a fixed drawing area; lines break where a value is NaN. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from penstock.queueing.domain import FloatArray

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 64, 16, 24, 30
_TIME_STEPS = (10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_MOST_TIME_TICKS = 13


@dataclass(frozen=True, slots=True)
class Line:
    """One line: points, colour, label. `stepped`: each value holds until the next point."""

    at: FloatArray
    values: FloatArray
    colour: str
    label: str
    stepped: bool = False
    filled: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Axes:
    """What is drawn where: seconds across, `low` to `high` upwards, on a logarithmic scale if so named."""

    end_seconds: float
    low: float
    high: float
    unit: str
    height: int = 170
    scale: str = "linear"  # or "log"

    def x(self, at: float) -> float:
        """Return the place of an instant."""
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self.end_seconds

    def y(self, value: float) -> float:
        """Return the place of a value, held inside the area."""
        held = min(max(value, self.low), self.high)
        share = (self._of(held) - self._of(self.low)) / (self._of(self.high) - self._of(self.low))
        return self.height - BOTTOM - (self.height - TOP - BOTTOM) * share

    def _of(self, value: float) -> float:
        return math.log10(value) if self.scale == "log" else value


def plot(axes: Axes, lines: Sequence[Line], limits: Sequence[tuple[float, str]] = ()) -> str:
    """Return an SVG element; `limits` are horizontal lines with their names, such as objectives."""
    described = escape(f"{axes.unit} over time: " + ", ".join(line.label for line in lines))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {axes.height}" role="img" aria-label="{described}" '
        'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="11">'
    ]
    parts += _grid(axes)
    parts += [_path(axes, line) for line in lines]
    for value, name in limits:
        y = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#b00020" '
            'stroke-width="1.2" stroke-dasharray="6 3"/>'
            # Above the drawing area: beside its line it would hide what comes close to it.
            f'<text x="{WIDTH - RIGHT}" y="{TOP - 8}" text-anchor="end" fill="#b00020">- - '
            f"{escape(name)}</text>"
        )
    parts += _legend(lines)
    return "\n".join([*parts, "</svg>"])


def round_up(value: float) -> float:
    """Return the next of 1, 2, 5 x 10^k."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * each for each in (1.0, 2.0, 5.0, 10.0) if power * each >= value * (1 - 1e-9))


def ticks(low: float, high: float) -> list[float]:
    """Return round values between two bounds, at most six."""
    step = round_up((high - low) / 5)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def clock(seconds: float) -> str:
    """Return hours and minutes since the start, or seconds below a minute."""
    whole = round(seconds)
    if whole % 60:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}"


def _grid(axes: Axes) -> list[str]:
    bottom = axes.height - BOTTOM
    parts = []
    for value in _ticks(axes):
        y = axes.y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#444">{value:g}</text>'
        )
    step = next((each for each in _TIME_STEPS if axes.end_seconds / each <= _MOST_TIME_TICKS), 86_400)
    for at in np.arange(0.0, axes.end_seconds + 1e-6, step).tolist():
        x = axes.x(at)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#eee"/>'
            f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#444">{clock(at)}</text>'
        )
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="13" y="{middle}" transform="rotate(-90 13 {middle})" text-anchor="middle" '
        f'fill="#444">{escape(axes.unit)}</text>'
    )
    return parts


def _ticks(axes: Axes) -> list[float]:
    if axes.scale == "log":
        first, last = math.ceil(math.log10(axes.low) - 1e-9), math.floor(math.log10(axes.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]
    return ticks(axes.low, axes.high)


def _path(axes: Axes, line: Line) -> str:
    points: list[str] = []
    pen, before = "M", 0.0
    for at, value in zip(line.at.tolist(), line.values.tolist(), strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        x, y = axes.x(at), axes.y(value)
        if line.stepped and pen == "L":
            points.append(f"L{x:.1f} {before:.1f}")
        points.append(f"{pen}{x:.1f} {y:.1f}")
        pen, before = "L", y
    if not points:
        return ""
    if line.filled:
        floor = axes.height - BOTTOM
        start, end = axes.x(float(line.at[0])), axes.x(float(line.at[-1]))
        closed = f"{' '.join(points)} L{end:.1f} {floor} L{start:.1f} {floor} Z"
        return f'<path d="{closed}" fill="{line.colour}" fill-opacity="0.25" stroke="{line.colour}"/>'
    dash = ' stroke-dasharray="4 3"' if line.dashed else ""
    return f'<path d="{" ".join(points)}" fill="none" stroke="{line.colour}" stroke-width="1.4"{dash}/>'


def _legend(lines: Sequence[Line]) -> list[str]:
    """Name the lines above the drawing area."""
    parts, x = [], float(LEFT)
    for line in lines:
        dash = ' stroke-dasharray="4 3"' if line.dashed else ""
        parts.append(
            f'<line x1="{x:.1f}" x2="{x + 16:.1f}" y1="{TOP - 12}" y2="{TOP - 12}" stroke="{line.colour}" '
            f'stroke-width="2.5"{dash}/>'
            f'<text x="{x + 20:.1f}" y="{TOP - 8}" fill="#222">{escape(line.label)}</text>'
        )
        x += 32 + 6.2 * len(line.label)
    return parts
