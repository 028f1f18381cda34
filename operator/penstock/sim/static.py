"""The policy that never changes its mind: a fixed number of replicas."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.sim.policy_port import Signals


@dataclass(frozen=True, slots=True)
class Static:
    """Always `replicas`."""

    replicas: int
    interval_seconds: float = 60.0

    @property
    def name(self) -> str:
        """The count it holds."""
        return f"static {self.replicas}"

    def decide(self, seen: Signals) -> int:
        """Return the count, whatever was seen."""
        return self.replicas
