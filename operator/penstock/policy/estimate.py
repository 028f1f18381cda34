"""What a decision believes: how much load is coming, and what a replica count can carry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from penstock.model.spec import Objective
from penstock.model.value import value
from penstock.policy.admission_law import AdmissionLaw
from penstock.policy.calibration import CalibrationMemory
from penstock.policy.demand import Demand


class Capacity(Protocol):
    """The solved model of one service: what N replicas can carry within the objectives."""

    @property
    def admission(self) -> AdmissionLaw | None:
        """Return the limits per replica and what they turn away; None: nothing to limit by."""

    @property
    def queue_limit(self) -> float:
        """Return the requests per replica that may wait inside the objectives."""

    @property
    def saturation_rate_per_second(self) -> float:
        """Return the rate (1/s) at which one replica saturates."""

    @property
    def unreachable(self) -> tuple[str, ...]:
        """Return the objectives that no count can meet, each with its best value."""

    def replicas_for(self, rate_per_second: float) -> int:
        """Return the fewest replicas that keep every objective at this rate."""

    def binding(self, replicas: int, rate_per_second: float) -> str:
        """Return what binds there: an objective's name, ``availability``, ``saturation`` or ``minimum``."""

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        """Return the objective's percentile in seconds; inf beyond saturation."""

    def max_rate(self, replicas: int) -> float:
        """Return the highest rate (1/s) that `replicas` carry within the objectives."""


@dataclass(frozen=True, slots=True)
class NothingToCarry:
    """Capacity of a service without any traffic: one replica carries that, whatever the engine.

    Without it a service whose lengths were never learned would be held at its count for ever.
    """

    admission: AdmissionLaw | None = None
    queue_limit: float = 0.0
    saturation_rate_per_second: float = math.inf
    unreachable: tuple[str, ...] = ()

    def replicas_for(self, rate_per_second: float) -> int:
        """Return one."""
        return 1

    def binding(self, replicas: int, rate_per_second: float) -> str:
        """Return that nothing but the smallest count binds."""
        return "minimum"

    def predict(self, objective: Objective, replicas: int, rate_per_second: float) -> float:
        """Return that nothing is known of latencies."""
        return math.nan

    def max_rate(self, replicas: int) -> float:
        """Return the only rate that is known to be carried."""
        return 0.0


@value(frozen=True, slots=True)
class Estimate:
    """Beliefs of one tick. None where nothing can be believed yet, with the reason in `missing`."""

    demand: Demand | None
    capacity: Capacity | None
    backlog_per_second: float = 0.0  # rate that works off what waits beyond the model's own queue
    speed_ratio: float = 1.0  # measured step time / profile's step time
    missing: str = ""  # why demand or capacity is None: query and what came back, or what is learned
    learning: bool = False  # nothing is broken, there is just not enough seen yet
    unreachable: tuple[str, ...] = ()  # objectives no count can meet, each with its best value
    calibration: CalibrationMemory | None = None  # None: there is nothing to calibrate
    partial: str = ""  # why the load may be under-counted: no scale-down on it
    partial_seconds: float = 0.0  # for how long already: a pod is ready before its first scrape

    @property
    def rate_to_serve(self) -> float:
        """Return the rate (1/s) to size for: the demand's bound plus the backlog's share."""
        return 0.0 if self.demand is None else self.demand.bound_per_second + self.backlog_per_second
