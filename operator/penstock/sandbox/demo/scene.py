"""What the demo plays: the workload, the load against time, and times compressed to fit four minutes.

The engine is llama-3.1-8b on one L40S at its own speed. Prompts of 2,000 tokens make it slow where it
matters (a prefill takes 150 ms), so some 4 requests/s fill a replica's objective while the whole
fleet streams some 500 tokens/s, which two cores do beside Prometheus, an API server and a gateway.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.engine.arrivals import Lengths, RateStep

NAMESPACE = "demo"
NAME = "chat"
PROFILE = "llama-3.1-8b-l40s"
MODEL = "llama-3.1-8b"
LENGTHS = Lengths(input_tokens=2000, output_tokens=40, scv=0.3)


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of constant load."""

    name: str
    per_second: float
    seconds: float
    says: str  # what happens and why it matters


@dataclass(frozen=True, slots=True)
class SmallModel:
    """The service that takes the overload. Its engine is that many times faster: a smaller model."""

    name: str = "chat-small"
    model: str = "qwen3-1.7b"
    profile: str = "qwen3-1.7b-l40s"
    replicas: int = 2  # one request each is let in until what they can take is known
    max_percent: int = 25  # of the requests: the small model is not what users came for


@dataclass(frozen=True, slots=True)
class Scene:
    """One performance. `operator_killed_after_seconds` counts from the start of the load; None: never."""

    phases: tuple[Phase, ...]
    first_mode: str = "Enforce"
    initial_replicas: int = 1
    operator_killed_after_seconds: float | None = None
    ttft_p95_seconds: float = 1.0
    max_replicas: int = 8
    startup_seconds: float = 4.0
    initial_startup_seconds: int = 8
    scale_down_window_seconds: int = 15
    tick_seconds: float = 1.0
    scrape_interval_seconds: float = 1.0
    rate_window_seconds: float = 12.0
    lengths: Lengths = LENGTHS
    tpot_p95_milliseconds: int | None = None
    fallback: SmallModel | None = None  # None: no gateway, the load goes to the engines

    @property
    def services(self) -> tuple[str, ...]:
        """Return the names of the workloads."""
        return (NAME,) if self.fallback is None else (NAME, self.fallback.name)

    @property
    def rates(self) -> tuple[RateStep, ...]:
        """Return the load as a schedule."""
        return tuple(RateStep(phase.per_second, phase.seconds) for phase in self.phases)

    @property
    def load_seconds(self) -> float:
        """Return how long the load lasts."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def most_pods(self) -> int:
        """Return how many pods there may be, two that drain included."""
        return self.max_replicas + 2 + (self.fallback.replicas if self.fallback is not None else 0)

    def phase_at(self, seconds: float) -> int:
        """Return the position of the phase at a time since the start of the load."""
        end = 0.0
        for position, phase in enumerate(self.phases):
            end += phase.seconds
            if seconds < end:
                return position
        return len(self.phases) - 1


def full_scene() -> Scene:
    """Return the whole performance: adoption, an overload behind a gateway, a killed operator, recovery."""
    return Scene(
        phases=(
            Phase(
                "quiet",
                2,
                48,
                "2 requests/s at one replica, and nobody who scales it: the service as Penstock finds it.",
            ),
            Phase(
                "overload",
                14,
                62,
                "the load jumps from 2 to 14 requests/s. New replicas need 15 s to start; until then the "
                "limit keeps what is let in fast, and the rest goes to the small model or gets a 429.",
            ),
            Phase(
                "after",
                2,
                54,
                "the load falls back to 2 requests/s. Replicas go only after fewer have been enough "
                "for the whole scaleDownWindow, and the least busy ones first.",
            ),
        ),
        first_mode="Observe",
        operator_killed_after_seconds=80.0,
        startup_seconds=12.0,
        initial_startup_seconds=15,
        tpot_p95_milliseconds=100,
        fallback=SmallModel(),
    )


def replicas_scene() -> Scene:
    """Return the whole performance without a gateway: replicas alone follow a load step."""
    return Scene(
        phases=(
            Phase(
                "quiet",
                2,
                44,
                "2 requests/s at one replica, and nobody who scales it: the service as Penstock finds it.",
            ),
            Phase(
                "step",
                9,
                58,
                "the load jumps from 2 to 9 requests/s. Two replicas only just bear it; new ones need "
                "some 6 s to start, so what counts is to see it at once and to order enough.",
            ),
            Phase(
                "after",
                2,
                62,
                "the load falls back to 2 requests/s. Replicas go only after fewer have been enough "
                "for the whole scaleDownWindow, and the least busy ones first.",
            ),
        ),
        first_mode="Observe",
        operator_killed_after_seconds=66.0,
    )


def quick_scene() -> Scene:
    """Return the shortest performance that shows a scale-up and a scale-down, without a gateway."""
    return Scene(
        phases=(
            Phase("quiet", 2, 24, "2 requests/s at two replicas, and nobody who scales them."),
            Phase("step", 9, 24, "the load jumps from 2 to 9 requests/s."),
            Phase("after", 2, 26, "the load falls back to 2 requests/s."),
        ),
        initial_replicas=2,
        scale_down_window_seconds=10,
        rate_window_seconds=8.0,
    )
