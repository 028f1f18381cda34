"""What an overload experiment is: engines, objectives, capacity, and load over time.

Capacity is the model's completion rate at c* times the replicas; loads are multiples of it. A load has a
settling time at half of capacity, then a step, or a ramp from 0.5 to 3. What arrives in the settling is
not counted, nor what a ramp offers below capacity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.simulated_pool import Offered
from penstock.model.profiles import profile_named
from penstock.model.spec import Metric, Objective, Slo
from penstock.policy.admission_law import queue_per_endpoint
from penstock.policy.feasibility import Limits, admission_limits
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape

SETTLING_LOAD = 0.5
RAMP = (0.5, 3.0)
_FINE = 10_000  # points of the ramp's cumulated rate


@dataclass(frozen=True)
class Fleet:
    """Replicas of a profile under a traffic shape, with TTFT and TPOT objectives (p95, seconds)."""

    profile: EngineProfile
    shape: TrafficShape
    replicas: int
    ttft_seconds: float
    tpot_seconds: float

    @classmethod
    def of(
        cls,
        *,
        slowed: float = 1.0,
        tokens: tuple[int, int],
        replicas: int,
        ttft_seconds: float,
        tpot_seconds: float,
    ) -> Fleet:
        """Return a fleet of the reference replica, its steps `slowed` times as long."""
        profile = profile_named("llama-3.1-8b-h100").at_speed(slowed)
        return cls(profile, TrafficShape.lognormal(*tokens, 0.5), replicas, ttft_seconds, tpot_seconds)

    @cached_property
    def model(self) -> ReplicaModel:
        """Return the queueing model of one replica."""
        return ReplicaModel(self.profile, self.shape)

    @cached_property
    def limits(self) -> Limits:
        """Return c* and q per replica, as the operator gives them to its gateways."""
        ttft = Objective(Metric.TTFT, 0.95, self.ttft_seconds)
        tpot = Objective(Metric.TPOT, 0.95, self.tpot_seconds)
        limits = admission_limits(self.model, Slo((ttft, tpot)))
        return Limits(limits.running, queue_per_endpoint(limits.queue))

    @property
    def capacity_per_second(self) -> float:
        """Return completions per second with c* running everywhere."""
        return self.replicas * self.model.completion_rate(self.limits.running)

    @property
    def prefill_tokens_per_second(self) -> float:
        """Return prompt tokens per second of one replica that does nothing else."""
        return self.shape.input_mean / float(self.model.fluid.further_prompt_seconds)


@dataclass(frozen=True, slots=True)
class Load:
    """`peak` times capacity for `seconds` after `settling_seconds`; a ramp up to there when `ramps`."""

    name: str
    peak: float
    settling_seconds: float
    seconds: float
    ramps: bool = False

    @property
    def end_seconds(self) -> float:
        """Return when the last request arrives."""
        return self.settling_seconds + self.seconds

    @property
    def counted_from_seconds(self) -> float:
        """Return from when on requests count."""
        if not self.ramps:
            return self.settling_seconds
        low, high = RAMP
        return self.settling_seconds + self.seconds * (1.0 - low) / (high - low)

    def times(self, capacity_per_second: float, random: np.random.Generator) -> FloatArray:
        """Return Poisson arrivals in seconds, sorted."""
        settling = random.uniform(
            0,
            self.settling_seconds,
            random.poisson(SETTLING_LOAD * capacity_per_second * self.settling_seconds),
        )
        if not self.ramps:
            count = random.poisson(self.peak * capacity_per_second * self.seconds)
            rest = random.uniform(self.settling_seconds, self.end_seconds, count)
        else:
            low, high = RAMP
            grid = np.linspace(0, 1, _FINE)
            cumulated = low * grid + (high - low) * grid**2 / 2
            count = random.poisson(cumulated[-1] * capacity_per_second * self.seconds)
            at = np.interp(random.uniform(0, cumulated[-1], count), cumulated, grid)
            rest = self.settling_seconds + at * self.seconds
        return np.sort(np.concatenate([settling, rest]))

    def offered(self, fleet: Fleet, seed: int) -> Offered:
        """Return the requests of this load on `fleet`."""
        random = np.random.default_rng(seed)
        times = self.times(fleet.capacity_per_second, random)
        inputs, outputs = fleet.shape.sample(times.size, random)
        whole = [np.maximum(1, np.rint(each)).astype(np.int64) for each in (inputs, outputs)]
        return Offered(times, *whole)
