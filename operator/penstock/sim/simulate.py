"""Run a policy on a scenario."""

from __future__ import annotations

from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.run import Run
from penstock.sim.scenario import Scenario


def simulate(scenario: Scenario, policy: ScalingPolicy, seed: int) -> Run:
    """Return what happens to every request and replica; the same seed gives the same run."""
    raise NotImplementedError
