"""Many servers with a limited number of places: M/M/c/K (what finds all K taken is lost).

    p(n+1)/p(n) = lambda / (min(n+1, c) mu),  n < K;   blocking = p(K)

Given n >= c present, the wait is Erlang(n - c + 1, c mu). In the clock of a Poisson process of rate c mu,
both tails are one weighted sum of Poisson probabilities, all terms positive.
Source: Kleinrock, Queueing Systems I (1975), section 3.8; uniformization: Jensen 1953.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from penstock.queueing.birth_death import birth_death_probabilities
from penstock.queueing.domain import (
    FloatArray,
    FloatOrArray,
    Numbers,
    non_negative,
    one,
    positive,
    same_kind,
    whole_number,
)
from penstock.queueing.errors import InvalidParameter
from penstock.queueing.quantile import quantile_of_tail


@dataclass(frozen=True, slots=True)
class MMcK:
    """M/M/c with `capacity` places, those of the servers included. One queue, no arrays; never unstable.

    Waits and responses are of the accepted requests. Raises InvalidParameter if capacity < servers.
    """

    arrival_rate: float
    service_rate: float
    servers: int
    capacity: int
    _present: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, check in (("arrival_rate", non_negative), ("service_rate", positive)):
            object.__setattr__(self, name, check(name, one("MMcK", name, getattr(self, name))))
        for name in ("servers", "capacity"):
            object.__setattr__(self, name, int(whole_number(name, one("MMcK", name, getattr(self, name)))))
        if self.capacity < self.servers:
            raise InvalidParameter(
                "capacity",
                f"counts all places, the {self.servers} servers' included: must be >= {self.servers}, "
                f"got {self.capacity}",
            )
        busy = np.minimum(np.arange(1, self.capacity + 1), self.servers)
        object.__setattr__(
            self, "_present", birth_death_probabilities(self.arrival_rate / (busy * self.service_rate))
        )

    @property
    def blocking_probability(self) -> float:
        """Fraction of arrivals that find every place taken."""
        return float(self._present[-1])

    @property
    def accepted_rate(self) -> float:
        """Requests per second that get in."""
        return self.arrival_rate * float(self._present[:-1].sum())

    @property
    def utilization(self) -> float:
        """Mean fraction of the servers that is busy (with what was accepted)."""
        return self.accepted_rate / (self.servers * self.service_rate)

    @property
    def wait_probability(self) -> float:
        """Probability that an accepted request has to wait."""
        return float(self._found_waiting.sum())

    @property
    def mean_queue_length(self) -> float:
        """Mean number waiting, those in service not counted."""
        waiting = self._present[self.servers :]
        return float(np.dot(np.arange(waiting.size), waiting))

    @property
    def mean_wait(self) -> float:
        """Mean seconds in queue of an accepted request."""
        stages = np.arange(1, self._found_waiting.size + 1)
        return float(np.dot(stages, self._found_waiting)) / (self.servers * self.service_rate)

    @property
    def mean_response(self) -> float:
        """Mean seconds in queue and service of an accepted request."""
        return self.mean_wait + 1 / self.service_rate

    def wait_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(wait > `seconds`) for accepted requests."""
        elapsed = np.asarray(non_negative("seconds", seconds)) * (self.servers * self.service_rate)
        stages = np.arange(1, self._found_waiting.size + 1)
        still_waiting = special.gammaincc(stages, elapsed[..., np.newaxis])  # P(Erlang(stages, 1) > elapsed)
        return same_kind(still_waiting @ self._found_waiting)

    def response_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(queue and service > `seconds`) for accepted requests."""
        times = np.asarray(non_negative("seconds", seconds))
        serving = self._in_service_after_ticks()
        return same_kind(np.vectorize(lambda t: self._response_tail(t, serving), otypes=[float])(times))

    def wait_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of the accepted starts service."""
        return quantile_of_tail(lambda t: float(self.wait_tail(t)), probability, 1 / self.service_rate)

    def response_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of the accepted has left."""
        serving = self._in_service_after_ticks()  # 5 ms at 50,000 places: not once per bisection
        return quantile_of_tail(lambda t: self._response_tail(t, serving), probability, 1 / self.service_rate)

    @property
    def _found_waiting(self) -> FloatArray:
        """Probability that an accepted request finds servers + i present, i = 0..capacity-servers-1."""
        return np.asarray(self._present[self.servers : -1] / self._present[:-1].sum())

    def _in_service_after_ticks(self) -> FloatArray:
        """Return P(waited, and is in service after j ticks of a clock of rate c mu), j = 0..capacity-servers.

        At the j-th tick those who found j - 1 more than c start; those in service outlive a tick with
        probability 1 - 1/c (it was another server's). Later nobody starts: the last value times that power.
        """
        serving = [0.0]
        for starts in self._found_waiting.tolist():
            serving.append((1 - 1 / self.servers) * serving[-1] + starts)
        return np.asarray(serving)

    def _response_tail(self, seconds: float, serving: FloatArray) -> float:
        expected = self.servers * self.service_rate * seconds
        # Ten standard deviations around the mean: what is cut is below 1e-20.
        spread = 10 * math.sqrt(expected) + 30
        ticks = np.arange(max(0, math.floor(expected - spread)), math.ceil(expected + spread))
        log_mass = special.xlogy(ticks, expected) - expected - special.gammaln(ticks + 1)
        last = serving.size - 1
        in_service = serving[np.minimum(ticks, last)] * (1 - 1 / self.servers) ** np.maximum(ticks - last, 0)
        served_at_once = (1 - self.wait_probability) * math.exp(-self.service_rate * seconds)
        return float(self.wait_tail(seconds)) + float(np.dot(np.exp(log_mass), in_service)) + served_at_once
