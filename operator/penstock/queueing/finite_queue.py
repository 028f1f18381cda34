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
        in_service = np.vectorize(self._in_service_after_waiting, otypes=[float])(times)
        served_at_once = (1 - self.wait_probability) * np.exp(-self.service_rate * times)
        return same_kind(self.wait_tail(times) + in_service + served_at_once)

    def wait_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of the accepted starts service."""
        return quantile_of_tail(lambda t: float(self.wait_tail(t)), probability, 1 / self.service_rate)

    def response_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of the accepted has left."""
        return quantile_of_tail(lambda t: float(self.response_tail(t)), probability, 1 / self.service_rate)

    @property
    def _found_waiting(self) -> FloatArray:
        """Probability that an accepted request finds servers + i present, i = 0..capacity-servers-1."""
        return np.asarray(self._present[self.servers : -1] / self._present[:-1].sum())

    def _in_service_after_waiting(self, seconds: float) -> float:
        """Return P(waited, started service by `seconds`, and is still in it then).

        At the j-th tick of a clock of rate c mu, those who found j - 1 more than c start; those already in
        service outlive a tick with probability 1 - 1/c (the tick was some other server's).
        """
        found = self._found_waiting
        ticks_expected = self.servers * self.service_rate * seconds
        # Ten standard deviations past the mean: what is cut is below 1e-20.
        ticks = np.arange(math.ceil(ticks_expected + 10 * math.sqrt(ticks_expected)) + 30)
        stays = 1 - 1 / self.servers
        serving = np.zeros(ticks.size)
        for tick in range(1, ticks.size):
            starts = found[tick - 1] if tick <= found.size else 0.0
            serving[tick] = stays * serving[tick - 1] + starts
        log_mass = special.xlogy(ticks, ticks_expected) - ticks_expected - special.gammaln(ticks + 1)
        return float(np.dot(np.exp(log_mass), serving))
