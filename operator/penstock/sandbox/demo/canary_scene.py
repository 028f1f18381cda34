"""What the canary scene plays: a service that runs, and two revisions that are tried beside it.

Prompts differ little in length, so that time to first token does: a revision that takes half as long again
is told from the other within a hundred requests of its own. Where latencies spread more, or 15 % more slow
requests are to be found, it takes thousands: that is `make bench-canary`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.engine.arrivals import Lengths
from penstock.sandbox.demo.scene import Phase, Scene

CANARY = "chat-canary"


@dataclass(frozen=True, slots=True)
class Try:
    """One revision: a name for the table, the engine's further flags, and what is said before."""

    name: str
    flags: tuple[str, ...]
    expected: str  # "promoted" or "rolled back"
    says: str


@dataclass(frozen=True, slots=True)
class CanaryScene:
    """One performance. `most_seconds` bounds the load: no verdict by then fails the demo."""

    tries: tuple[Try, ...]
    per_second: float = 30.0
    stable_replicas: int = 5
    step_percents: tuple[int, ...] = (10, 50)
    max_regression_percent: int = 25
    availability_percent: str = "90"
    warm_up_seconds: int = 4
    quiet_seconds: float = 5.0  # through the gateway, before the first canary
    most_seconds: float = 205.0
    after_seconds: float = 4.0  # of load after the last verdict: its share must have done no harm
    startup_seconds: float = 2.0
    lengths: Lengths = field(default_factory=lambda: Lengths(input_tokens=900, output_tokens=6, scv=0.1))

    @property
    def cluster(self) -> Scene:
        """Return what the sandbox and the operator are started with."""
        return Scene(
            phases=(Phase("canaries", self.per_second, self.most_seconds, ""),),
            initial_replicas=self.stable_replicas,
            max_replicas=3 * self.stable_replicas,
            startup_seconds=self.startup_seconds,
            rate_window_seconds=8.0,
            lengths=self.lengths,
        )


def canary_scene() -> CanaryScene:
    """Return the whole performance: a revision that is taken back, then one that passes."""
    return CanaryScene(
        tries=(
            Try(
                "slow",
                ("--slow-factor=1.5",),
                "rolled back",
                "a new engine flag, with which every step takes half as long again. Nobody knows that yet: "
                "Deployment chat-canary gets it.",
            ),
            Try(
                "good",
                ("--seed=7",),
                "promoted",
                "the flag is taken out again, and another one put in that costs nothing.",
            ),
        )
    )
