"""Many servers with an unlimited queue: M/M/c.

    P(W > t) = C exp(-(c mu - lambda) t),   E[W] = C / (c mu - lambda),   C = Erlang C
    R = W + S:  P(R > t) = (1 - C) exp(-mu t) + C P(Exp(c mu - lambda) + Exp(mu) > t)

Source: Kleinrock, Queueing Systems I (1975), section 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from penstock.queueing.domain import (
    FloatArray,
    FloatOrArray,
    Numbers,
    non_negative,
    positive,
    probability_below_one,
    require_stable,
    same_kind,
    whole_number,
)
from penstock.queueing.erlang import delay_from_blocking, erlang_b
from penstock.queueing.quantile import quantile_of_tail


@dataclass(frozen=True, slots=True)
class MMc:
    """Poisson arrivals (`arrival_rate`, 1/s), `servers` with exponential service (`service_rate` each, 1/s).

    Arrays broadcast: one MMc holds a fleet. Raises UnstableQueue where rho >= 1, InvalidParameter.
    """

    arrival_rate: FloatOrArray
    service_rate: FloatOrArray
    servers: FloatOrArray
    _delay: FloatOrArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrival_rate", non_negative("arrival_rate", self.arrival_rate))
        object.__setattr__(self, "service_rate", positive("service_rate", self.service_rate))
        object.__setattr__(self, "servers", whole_number("servers", self.servers))
        load = self.arrival_rate / self.service_rate
        require_stable(load, self.servers)
        # Once here: the recursion takes `servers` steps, the quantiles would repeat it a hundred times.
        blocking = erlang_b(self.servers, load)  # type: ignore[arg-type]  # checked to be whole above
        object.__setattr__(self, "_delay", delay_from_blocking(blocking, self.servers, load))

    @property
    def utilization(self) -> FloatOrArray:
        """Mean fraction of the servers that is busy."""
        return self.arrival_rate / (self.servers * self.service_rate)

    @property
    def wait_probability(self) -> FloatOrArray:
        """Probability that an arrival has to wait (Erlang C)."""
        return self._delay

    @property
    def mean_wait(self) -> FloatOrArray:
        """Mean seconds in queue, over all arrivals."""
        return self._delay / self._spare_rate

    @property
    def mean_response(self) -> FloatOrArray:
        """Mean seconds in queue and service."""
        return self.mean_wait + 1 / self.service_rate

    @property
    def mean_queue_length(self) -> FloatOrArray:
        """Mean number waiting, those in service not counted."""
        return self.arrival_rate * self.mean_wait

    def wait_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(wait > `seconds`)."""
        return same_kind(self._delay * np.exp(-self._spare_rate * non_negative("seconds", seconds)))

    def wait_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals starts service."""
        level = 1 - probability_below_one("probability", probability)
        return same_kind(np.log(np.maximum(self._delay, level) / level) / self._spare_rate)

    def response_tail(self, seconds: Numbers) -> FloatOrArray:
        """Return P(queue and service > `seconds`)."""
        t = non_negative("seconds", seconds)
        return same_kind(_response_tail(t, self.service_rate, self._spare_rate, self._delay))

    def response_quantile(self, probability: Numbers) -> FloatOrArray:
        """Return the seconds within which this fraction (in [0, 1)) of arrivals has left."""
        level = probability_below_one("probability", probability)
        solve = np.vectorize(_response_quantile, otypes=[float])
        return same_kind(solve(level, self.service_rate, self._spare_rate, self._delay))

    @property
    def _spare_rate(self) -> FloatOrArray:
        return self.servers * self.service_rate - self.arrival_rate


def _response_tail(
    t: FloatOrArray, service_rate: FloatOrArray, spare_rate: FloatOrArray, delay: FloatOrArray
) -> FloatOrArray:
    # Exp(a) + Exp(b) > t has the difference of exponentials over a - b, which is 0/0 where the rates
    # meet (c mu - lambda = mu) and overflows if the larger one is factored out.
    apart = np.abs(spare_rate - service_rate) * t
    slower = np.exp(-np.minimum(spare_rate, service_rate) * t)
    both = np.exp(-service_rate * np.asarray(t)) + service_rate * t * slower * _one_minus_exp_ratio(apart)
    return (1 - delay) * np.exp(-service_rate * np.asarray(t)) + delay * both


def _one_minus_exp_ratio(x: FloatOrArray) -> FloatArray:
    """Return (1 - exp(-x)) / x, 1 at 0."""
    values = np.asarray(x, dtype=np.float64)
    safe = np.where(values == 0, 1.0, values)
    return np.where(values == 0, 1.0, -np.expm1(-safe) / safe)


def _response_quantile(probability: float, service_rate: float, spare_rate: float, delay: float) -> float:
    scale = 1 / service_rate + 1 / spare_rate
    tail = quantile_of_tail(
        lambda t: float(_response_tail(t, service_rate, spare_rate, delay)), probability, scale
    )
    return float(tail)
