"""From a number in a column to a reading: the value, or why this service has none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.metrics_source import absences
from penstock.metrics_source.columns import Column
from penstock.model.reading import Reading

# A comparison with both is false for NaN too, and takes half the time of math.isfinite.
LOWEST, HIGHEST = -math.inf, math.inf
# Counts of requests and pods are small whole numbers, mostly the same ones for the whole fleet.
_WHOLE = {float(number): Reading(float(number)) for number in range(1024)}


@dataclass(frozen=True, slots=True)
class SignalReader:
    """Reads one signal by the service's row; `nobody` is why all lack it, `missing` why one does."""

    column: Column | None
    nobody: Reading
    missing: Reading
    metric: str

    @classmethod
    def of(cls, signal: Column | Reading, *, missing: Reading, metric: str) -> SignalReader:
        """Return the reader of a column, or of an absence that all services share."""
        if isinstance(signal, Reading):
            return cls(None, signal, missing, metric)
        return cls(signal, missing, missing, metric)

    def at(self, row: int) -> Reading:
        """Return the reading of a rate or a count."""
        if self.column is None:
            return self.nobody
        value = self.column[row]
        if value is None:
            return self.missing
        if LOWEST < value < HIGHEST:
            return _WHOLE.get(value) or Reading(value)
        return absences.not_a_number(self.metric, value)


@dataclass(frozen=True, slots=True)
class LatencyReader:
    """Reads a latency: of a service without requests it is missing too, but that is no fault.

    `at_the_end`: observed when a request ends. With long streams nothing may end within a window though
    requests arrive, and the latency is not a number.
    """

    signal: SignalReader
    idle: Reading
    at_the_end: bool

    def at(self, row: int, arrivals: Reading) -> Reading:
        """Return the reading; `arrivals` is the service's rate of requests."""
        column = self.signal.column
        if column is None:
            return self.signal.nobody
        value = column[row]
        if value is not None and LOWEST < value < HIGHEST:
            return Reading(value)
        if arrivals.value == 0.0 or (value is not None and math.isnan(value) and self.at_the_end):
            return self.idle
        return self.signal.missing if value is None else absences.not_a_number(self.signal.metric, value)


def whole(value: float) -> Reading:
    """Return a reading of a count, shared by all services with the same one."""
    return _WHOLE.get(value) or Reading(value)
