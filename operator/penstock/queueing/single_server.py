"""One server: M/M/1, M/G/1 and M/D/1 with their waits.

    M/M/1   P(W > t) = rho exp(-(mu - lambda) t)
    M/G/1   E[W] = rho S (1 + cs2) / (2 (1 - rho))          Pollaczek-Khinchine; exact mean, no tail
    M/D/1   E[W] as M/G/1 with cs2 = 0; its tail is in `deterministic_wait`

Sources: Kleinrock, Queueing Systems I (1975), chapters 3 and 5; Pollaczek 1930, Khinchine 1932.
`arrival_rate` and `service_rate` are per second. MM1 and MG1 take arrays, which broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from penstock.queueing.deterministic_wait import DeterministicWait
from penstock.queueing.domain import (
    FloatOrArray,
    Numbers,
    non_negative,
    one,
    positive,
    probability_below_one,
    require_stable,
    same_kind,
)
from penstock.queueing.quantile import quantile_of_tail


@dataclass(frozen=True, slots=True)
class MG1:
    """Poisson arrivals, one server, any service law with mean 1/`service_rate` and this `scv`.

    `scv` is variance / mean^2 of the service time: 0 constant, 1 exponential. Only means follow from
    it: the tail of the wait depends on the whole law. Raises UnstableQueue at rho >= 1.
    """

    arrival_rate: FloatOrArray
    service_rate: FloatOrArray
    scv: FloatOrArray = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrival_rate", non_negative("arrival_rate", self.arrival_rate))
        object.__setattr__(self, "service_rate", positive("service_rate", self.service_rate))
        object.__setattr__(self, "scv", non_negative("scv", self.scv))
        require_stable(self.utilization, 1.0)

    @property
    def utilization(self) -> FloatOrArray:
        """Fraction of time the server is busy."""
        return self.arrival_rate / self.service_rate

    @property
    def wait_probability(self) -> FloatOrArray:
        """Probability that an arrival finds the server busy (Poisson arrivals see time averages)."""
        return self.utilization

    @property
    def mean_wait(self) -> FloatOrArray:
        """Mean seconds in queue, over all arrivals."""
        rho = self.utilization
        return rho * (1 + self.scv) / (2 * (1 - rho) * self.service_rate)

    @property
    def mean_response(self) -> FloatOrArray:
        """Mean seconds in queue and service."""
        return self.mean_wait + 1 / self.service_rate

    @property
    def mean_queue_length(self) -> FloatOrArray:
        """Mean number waiting, the one in service not counted."""
        return self.arrival_rate * self.mean_wait


@dataclass(frozen=True, slots=True)
class MM1:
    """Poisson arrivals, one server, exponential service. Raises UnstableQueue at rho >= 1."""

    arrival_rate: FloatOrArray
    service_rate: FloatOrArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrival_rate", non_negative("arrival_rate", self.arrival_rate))
        object.__setattr__(self, "service_rate", positive("service_rate", self.service_rate))
        require_stable(self.utilization, 1.0)

    @property
    def utilization(self) -> FloatOrArray:
        """Fraction of time the server is busy."""
        return self.arrival_rate / self.service_rate

    @property
    def wait_probability(self) -> FloatOrArray:
        """Probability that an arrival has to wait."""
        return self.utilization

    @property
    def mean_wait(self) -> FloatOrArray:
        """Mean seconds in queue, over all arrivals."""
        return self.utilization / self._spare_rate

    @property
    def mean_response(self) -> FloatOrArray:
        """Mean seconds in queue and service."""
        return 1 / self._spare_rate

    @property
    def mean_queue_length(self) -> FloatOrArray:
        """Mean number waiting, the one in service not counted."""
        return self.utilization**2 / (1 - self.utilization)

    def wait_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(wait > `seconds`)."""
        return self.utilization * self.response_tail(seconds)

    def response_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(queue and service > `seconds`)."""
        return same_kind(np.exp(-self._spare_rate * non_negative("seconds", seconds)))

    def wait_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals starts service."""
        level = 1 - probability_below_one("probability", probability)
        # rho may be 0: nobody waits, and log(0) is never looked at.
        waited = np.log(np.maximum(self.utilization, level) / level) / self._spare_rate
        return same_kind(waited)

    def response_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals has left."""
        level = 1 - probability_below_one("probability", probability)
        return same_kind(-np.log(level) / self._spare_rate)

    @property
    def _spare_rate(self) -> FloatOrArray:
        return self.service_rate - self.arrival_rate


@dataclass(frozen=True, slots=True)
class MD1:
    """Poisson arrivals, one server, constant service 1/`service_rate`. One queue, no arrays.

    Raises UnstableQueue at rho >= 1.
    """

    arrival_rate: float
    service_rate: float
    _law: DeterministicWait = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "arrival_rate", non_negative("arrival_rate", one("MD1", "arrival_rate", self.arrival_rate))
        )
        object.__setattr__(
            self, "service_rate", positive("service_rate", one("MD1", "service_rate", self.service_rate))
        )
        require_stable(self.utilization, 1.0)
        object.__setattr__(self, "_law", DeterministicWait.of(self.utilization))

    @property
    def utilization(self) -> float:
        """Fraction of time the server is busy."""
        return self.arrival_rate / self.service_rate

    @property
    def wait_probability(self) -> float:
        """Probability that an arrival has to wait."""
        return self.utilization

    @property
    def mean_wait(self) -> float:
        """Mean seconds in queue, over all arrivals."""
        return self.utilization / (2 * (1 - self.utilization) * self.service_rate)

    @property
    def mean_response(self) -> float:
        """Mean seconds in queue and service."""
        return self.mean_wait + 1 / self.service_rate

    @property
    def mean_queue_length(self) -> float:
        """Mean number waiting, the one in service not counted."""
        return self.arrival_rate * self.mean_wait

    def wait_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(wait > `seconds`), to full relative precision however far out; takes arrays."""
        return self._law.tail(non_negative("seconds", seconds) * self.service_rate)

    def wait_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals starts service."""
        # `tail` of one float is a float; the union comes from its arrays.
        return quantile_of_tail(lambda t: float(self.wait_tail(t)), probability, 1 / self.service_rate)

    def response_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals has left."""
        return self.wait_quantile(probability) + 1 / self.service_rate
