"""The traffic's shape, learned: mean and variability of prompt and output lengths.

From the engines' length histograms. Within a bucket lengths are taken log-uniform, which fits the
1-2-5 buckets of the engines (uniform would overstate the second moment of a 200-500 bucket by 4 %).
The shape in force is a cell of a logarithmic grid, so that a fleet shares solved tables, and it moves
only when the estimate has clearly left its cell: requests drift, tables should not flutter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from penstock.model.observation import Histogram

MEAN_STEP = math.log(1.1)
SCV_STEP = math.log(1.25)  # of 1 + SCV
LEAVE_CELL = 0.8  # in cells; 0.5 is the border, the rest is hysteresis
FEWEST_REQUESTS = 30.0
HALF_LIFE_REQUESTS = 2000.0  # moments of R1-like lengths (SCV 10) need the tail: thousands of requests


@dataclass(frozen=True, slots=True)
class LengthMoments:
    """Mean (tokens) and squared coefficient of variation of a length."""

    mean: float
    scv: float


@dataclass(frozen=True, slots=True)
class ShapeCell:
    """A cell of the grid: the shape that tables are solved for; tokens and plain ratios."""

    input: LengthMoments
    output: LengthMoments


@dataclass(frozen=True, slots=True)
class LengthMemory:
    """Smoothed moments, the requests they rest on, and the cell in force.

    `gap_seconds` lay between the last two readings: in a large fleet lengths are read in turns.
    """

    input: LengthMoments | None = None
    output: LengthMoments | None = None
    requests: float = 0.0
    at: float = -math.inf
    cell: ShapeCell | None = None
    gap_seconds: float = 0.0


def histogram_moments(histogram: Histogram) -> tuple[LengthMoments, float] | None:
    """Return the moments and the total count rate (1/s); None for an empty histogram."""
    total = first = second = 0.0
    low = 0.0
    for bound, count in zip(histogram.upper_bounds, histogram.counts, strict=True):
        # The open last bucket has no upper edge: twice its lower one is as good as anything.
        high = bound if math.isfinite(bound) else 2.0 * low
        if count > 0 and high > low:
            span = math.log(high / low) if low > 0 else 0.0
            mean = (high - low) / span if span else high / 2
            square = (high * high - low * low) / (2 * span) if span else high * high / 3
            total += count
            first += count * mean
            second += count * square
        low = bound
    if not total or not first:
        return None
    scv = max(0.0, second * total / (first * first) - 1.0)
    mean = histogram.mean or first / total
    return LengthMoments(mean, scv), total


def observe_lengths(
    memory: LengthMemory,
    inputs: Histogram | None,
    outputs: Histogram | None,
    at: float,
    *,
    window_seconds: float,
) -> LengthMemory:
    """Take in one reading of both length histograms, counted over `window_seconds`."""
    if inputs is None or outputs is None or at <= memory.at:
        return memory
    seen_in, seen_out = histogram_moments(inputs), histogram_moments(outputs)
    if seen_in is None or seen_out is None:
        return memory
    # Readings in turns further apart than the window miss the requests in between; they still count as
    # evidence of that period. Silence does not: after 12 h of it 3 requests weighed as 432.
    gap = at - memory.at
    elapsed = min(gap, max(window_seconds, memory.gap_seconds))
    requests, in_window = seen_out[1] * elapsed, seen_out[1] * window_seconds
    if memory.input is None or memory.requests < min(in_window, HALF_LIFE_REQUESTS):
        # Of a young service the window holds all that was ever seen. Adding up its rate instead, which
        # is over the whole window, took 80 s to find 30 requests where 200 had been.
        gain, weight = 1.0, min(in_window, HALF_LIFE_REQUESTS)
    else:
        gain = max(
            -math.expm1(-requests * math.log(2) / HALF_LIFE_REQUESTS), requests / (memory.requests + requests)
        )
        weight = min(memory.requests + requests, HALF_LIFE_REQUESTS)
    updated = replace(
        memory,
        input=_blend(memory.input, seen_in[0], gain),
        output=_blend(memory.output, seen_out[0], gain),
        requests=weight,
        at=at,
        gap_seconds=gap if memory.input is not None else 0.0,
    )
    return _settle(updated)


def observe_means(
    memory: LengthMemory, *, input_mean: float, output_mean: float, requests: float
) -> LengthMemory:
    """Start from token totals while no histogram has been read: exponential-like variability."""
    if memory.input is not None or not (input_mean >= 0 and output_mean >= 1) or requests < FEWEST_REQUESTS:
        return memory
    cell = ShapeCell(_cell(LengthMoments(max(1.0, input_mean), 1.0)), _cell(LengthMoments(output_mean, 1.0)))
    return memory if memory.cell == cell else replace(memory, cell=cell)


def _blend(old: LengthMoments | None, new: LengthMoments, gain: float) -> LengthMoments:
    """Blend first and second moments (not the SCV itself: a drifting mean is variability too)."""
    if old is None:
        return new
    mean = old.mean + gain * (new.mean - old.mean)
    old_square, new_square = old.mean**2 * (1 + old.scv), new.mean**2 * (1 + new.scv)
    square = old_square + gain * (new_square - old_square)
    return LengthMoments(mean, max(0.0, square / mean**2 - 1.0))


def _settle(memory: LengthMemory) -> LengthMemory:
    """Choose the cell in force."""
    if memory.input is None or memory.output is None or memory.requests < FEWEST_REQUESTS:
        return memory
    held = memory.cell
    if held and _near(held.input, memory.input) and _near(held.output, memory.output):
        return memory
    return replace(memory, cell=ShapeCell(_cell(memory.input), _cell(memory.output)))


def _near(cell: LengthMoments, estimate: LengthMoments) -> bool:
    """Whether an estimate has not clearly left its cell."""
    if abs(math.log(estimate.mean / cell.mean)) > LEAVE_CELL * MEAN_STEP:
        return False
    return abs(math.log((1 + estimate.scv) / (1 + cell.scv))) <= LEAVE_CELL * SCV_STEP


def _cell(moments: LengthMoments) -> LengthMoments:
    """Snap to the middle of the grid's cell."""
    mean = math.exp(round(math.log(max(1.0, moments.mean)) / MEAN_STEP) * MEAN_STEP)
    scv = math.exp(round(math.log1p(moments.scv) / SCV_STEP) * SCV_STEP) - 1.0
    return LengthMoments(mean, scv)
