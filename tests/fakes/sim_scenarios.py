"""Builders for the fleet simulation: small scenarios, scripted and watching policies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np

from penstock.policy.estimate import NothingToCarry
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.step_law import StepLaw
from penstock.sim.policies import sizing
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Objectives, Scenario, StartUp

# A step takes 10 ms, whatever is in it: what happens when can be counted on one's fingers.
TENTH = EngineProfile(
    name="ten milliseconds a step",
    step_law=StepLaw(base_seconds=0.01),
    kv_capacity_tokens=160_000,
    frontend_seconds=0.0,
)


def scenario(
    arrivals: Sequence[float] | np.ndarray,
    inputs: int | Sequence[int] | np.ndarray = 100,
    outputs: int | Sequence[int] | np.ndarray = 10,
    **changes: Any,
) -> Scenario:
    """Return a scenario of one replica at 10 ms a step unless `changes` say otherwise."""
    at = np.asarray(arrivals, np.float64)
    parts: dict[str, Any] = {
        "name": "test",
        "profile": TENTH,
        "slo": Objectives(0.5, 0.05),
        "min_replicas": 1,
        "max_replicas": 8,
        "initial_replicas": 1,
        "start_up": StartUp(60.0),
    }
    return Scenario(
        arrivals_seconds=at,
        input_tokens=np.broadcast_to(np.asarray(inputs, np.int64), at.shape).copy(),
        output_tokens=np.broadcast_to(np.asarray(outputs, np.int64), at.shape).copy(),
        **(parts | changes),
    )


def every(seconds: float, until: float) -> np.ndarray:
    """Return evenly spaced arrivals in [0, until)."""
    return np.arange(0.0, until, seconds)


@dataclass(frozen=True, slots=True)
class FourEach(NothingToCarry):
    """A solved model by which each replica carries four requests a second."""

    def replicas_for(self, rate_per_second: float) -> int:
        return max(1, math.ceil(rate_per_second / 4 - 1e-9))

    def max_rate(self, replicas: int) -> float:
        return 4.0 * replicas


@contextmanager
def solved_as(model: NothingToCarry) -> Iterator[None]:
    """Let every sizing problem have that solution at once; real ones are solved anew afterwards."""
    with patch.object(sizing, "solve", lambda problem: model):
        sizing.solved.cache_clear()
        yield
    sizing.solved.cache_clear()


@dataclass(slots=True)
class Scripted:
    """Wants `targets[k]` at its k-th decision, the last one for ever; keeps what it saw."""

    targets: Sequence[int]
    interval_seconds: float = 15.0
    name: str = "scripted"
    seen: list[Signals] = field(default_factory=list)

    def decide(self, seen: Signals) -> int:
        self.seen.append(seen)
        return self.targets[min(len(self.seen), len(self.targets)) - 1]

    def at(self, seconds: float) -> Signals:
        """Return what was seen at that decision."""
        return next(each for each in self.seen if each.at == seconds)
