"""When requests are sent and how long they are: schedules, traces, length distributions.

An open loop needs its whole schedule beforehand: arrival times depend on nothing that the server
does. Rates change at the steps of a schedule; under `poisson` the gaps are exponential in
cumulative intensity, which is exact for a piecewise constant rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from penstock.traces.reading import traced_requests


class ArrivalProcess(StrEnum):
    """How arrivals are spaced."""

    POISSON = "poisson"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a schedule; `at_seconds` counts from the start."""

    at_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Independent log-normal prompt and output lengths: means in tokens, squared coefficient of variation."""

    input_tokens: float
    output_tokens: float
    scv: float = 1.0

    def draw(self, chance: np.random.Generator) -> tuple[int, int]:
        """Return one prompt length and one output length, at least one token each."""
        return _draw(self.input_tokens, self.scv, chance), _draw(self.output_tokens, self.scv, chance)


def _draw(mean: float, scv: float, chance: np.random.Generator) -> int:
    if scv == 0:
        return max(1, round(mean))
    variance = math.log1p(scv)
    return max(1, round(chance.lognormal(math.log(mean) - variance / 2, math.sqrt(variance))))


@dataclass(frozen=True, slots=True)
class RateStep:
    """A constant rate for some time; infinite where it is the last word."""

    per_second: float
    seconds: float


def parse_rates(text: str) -> tuple[RateStep, ...]:
    """Parse ``5`` or ``2:60,6:120`` (rate:seconds); raises ValueError that says what to write."""
    steps = []
    for part in text.split(","):
        rate, mark, seconds = part.partition(":")
        try:
            step = RateStep(float(rate), float(seconds) if mark else math.inf)
        except ValueError:
            raise ValueError(f"{part!r} is not a rate: write 5, or 2:60,6:120 (rate:seconds)") from None
        if not (math.isfinite(step.per_second) and step.per_second >= 0 and step.seconds > 0):
            raise ValueError(f"{part!r}: rates are at least 0 and finite, durations above 0")
        steps.append(step)
    if any(math.isinf(step.seconds) for step in steps[:-1]):
        raise ValueError(f"{text!r}: every rate but the last needs its seconds, as in 2:60,6:120")
    return tuple(steps)


def scheduled(
    rates: tuple[RateStep, ...],
    lengths: Lengths,
    *,
    process: ArrivalProcess,
    duration_seconds: float,
    chance: np.random.Generator,
) -> Iterator[PlannedRequest]:
    """Yield the requests of a rate schedule up to `duration_seconds`; the last rate holds to the end."""
    now, remaining = 0.0, _gap(process, chance)
    for position, step in enumerate(rates):
        last = position == len(rates) - 1
        end = duration_seconds if last else min(now + step.seconds, duration_seconds)
        while step.per_second > 0 and now + remaining / step.per_second < end:
            now += remaining / step.per_second
            yield PlannedRequest(now, *lengths.draw(chance))
            remaining = _gap(process, chance)
        remaining -= (end - now) * step.per_second  # intensity used up at this rate
        now = end


def _gap(process: ArrivalProcess, chance: np.random.Generator) -> float:
    return float(chance.exponential()) if process is ArrivalProcess.POISSON else 1.0


def from_trace(path: Path, *, duration_seconds: float) -> Iterator[PlannedRequest]:
    """Yield the requests of a trace file up to `duration_seconds`, counted from its first row.

    Raises TraceFault with the line that cannot be used.
    """
    first = None
    with closing(traced_requests(path)) as requests:
        for at, input_tokens, output_tokens in requests:
            if first is None:
                first = at
            if at - first >= duration_seconds:
                return
            yield PlannedRequest(at - first, input_tokens, output_tokens)
