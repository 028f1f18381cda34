"""A slow correction of the queue's limit by the measured wait: what the model's q got wrong.

    trim += k elapsed (1 - pressure),  |trim| <= 0.2,   pressure = measured wait / allowed wait

q is set so that a full queue waits half the TTFT objective; c* is not touched, TPOT belongs to the
calibration of the engine's speed. Only an integral, and a slow one: with k = 0.2/60 s the loop closes
in five minutes, far above the minute over which waits are measured, so it cannot oscillate.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.model.observation import Load
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.gateway_load import GatewayRates
from penstock.queueing.replica import TTFT_SHARE

LARGEST = 0.2
GAIN_PER_SECOND = LARGEST / 60.0
LONGEST_SECONDS = 60.0  # between two looks; a gap in the data is no evidence for its whole length
_MOST_PRESSURE = 2.0  # one wild percentile moves no further than twice the objective would


@dataclass(frozen=True, slots=True)
class TrimMemory:
    """The correction in force (a ratio, -0.2..0.2) and when it was last looked at, Unix seconds."""

    ratio: float = 0.0
    at: float | None = None


UNTRIMMED = TrimMemory()


def trim(memory: TrimMemory, pressure: float | None, now: float) -> TrimMemory:
    """Return the correction after one look; None (nothing measured, or the limit not felt) freezes it."""
    if pressure is None:
        return TrimMemory(memory.ratio) if memory.at is not None else memory
    if memory.at is None:
        return TrimMemory(memory.ratio, now)
    elapsed = min(max(now - memory.at, 0.0), LONGEST_SECONDS)
    ratio = memory.ratio + GAIN_PER_SECOND * elapsed * (1 - min(pressure, _MOST_PRESSURE))
    return TrimMemory(min(LARGEST, max(-LARGEST, ratio)), now)


def queue_pressure(slo: Slo, load: Load, rates: GatewayRates | None) -> float | None:
    """Return the measured wait over the allowed one while the limit is felt; None where unknown.

    The larger of the gateways' mean wait (Little's law) over half the TTFT objective, and the measured
    percentile over its objective. A request/response service goes by its latency alone.
    """
    if rates is None or rates.shed + rates.spilled <= 0:
        return None  # a queue that is never full says nothing of its limit
    objective = _tightest(slo, Metric.TTFT)
    if objective is None:
        objective = _tightest(slo, Metric.LATENCY) if _tightest(slo, Metric.TPOT) is None else None
        reading = None if objective is None else load.latency.get(objective.percentile)
        measured = None if reading is None else reading.value
        return None if objective is None or measured is None else measured / objective.seconds
    found = []
    admitted = rates.offered - rates.shed - rates.spilled
    if admitted > 0:
        found.append(rates.latest.waiting / admitted / (TTFT_SHARE * objective.seconds))
    reading = load.ttft.get(objective.percentile)
    if reading is not None and reading.value is not None:
        found.append(reading.value / objective.seconds)
    return max(found, default=None)


def _tightest(slo: Slo, metric: Metric) -> Objective | None:
    return min(
        (each for each in slo.objectives if each.metric is metric),
        key=lambda each: each.seconds,
        default=None,
    )
