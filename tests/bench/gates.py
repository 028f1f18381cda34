"""The policies of the overload table: each where its users put it.

Adaptive and static limits stand beside each replica (a sidecar) with their own defaults; the client
throttle stands before the pool, over engines with vLLM's caps, since without refusals it never acts;
ours holds the pool at N c* running and N q waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bench.limiters import Aimd, ClientThrottle, Gradient2, Limit, QueueCaps, Signal, Static
from bench.simulated_pool import Policy, Pool
from penstock.policy.feasibility import Limits


@dataclass(slots=True)
class Open:
    """Admits everything; the others are built on it."""

    running_limit: float = math.inf

    def admits(self, now: float, pool: Pool, replica: int, prompt_tokens: int) -> bool:
        """Say yes."""
        return True

    def first_token(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Learn nothing."""

    def ended(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class PoolLimit(Open):
    """Ours: so many in flight in the whole pool, those beyond `running_limit` waiting at the gate."""

    in_flight_limit: int = 0

    @classmethod
    def of(cls, limits: Limits, replicas: int) -> PoolLimit:
        """Return the limit of a fleet."""
        return cls(
            running_limit=limits.running * replicas,
            in_flight_limit=(limits.running + limits.queue) * replicas,
        )

    def admits(self, now: float, pool: Pool, replica: int, prompt_tokens: int) -> bool:
        """Admit while there is a place in the pool."""
        return pool.total < self.in_flight_limit


@dataclass(slots=True)
class Sidecars(Open):
    """A limit beside each replica, fed by TTFT or by whole latencies."""

    limits: list[Limit] = field(default_factory=list)
    signal: Signal = Signal.LAST_TOKEN

    def admits(self, now: float, pool: Pool, replica: int, prompt_tokens: int) -> bool:
        """Admit while the replica is below its limit."""
        return pool.in_flight[replica] < self.limits[replica].limit

    def first_token(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Feed a TTFT."""
        if self.signal is Signal.FIRST_TOKEN:
            self.limits[replica].sample(seconds, in_flight_at_start, dropped=False)

    def ended(self, now: float, replica: int, seconds: float, in_flight_at_start: int) -> None:
        """Feed a whole latency."""
        if self.signal is Signal.LAST_TOKEN:
            self.limits[replica].sample(seconds, in_flight_at_start, dropped=False)


@dataclass(slots=True)
class EngineCaps(Open):
    """The engine's own caps; with a throttle at the clients, too."""

    caps: QueueCaps = field(default_factory=QueueCaps)
    throttle: ClientThrottle | None = None
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def admits(self, now: float, pool: Pool, replica: int, prompt_tokens: int) -> bool:
        """Ask the throttle, then the engine."""
        throttle = self.throttle
        if throttle is not None:
            rejected = self.random.random() < throttle.rejection_probability(now)
            throttle.requested(now)
            if rejected:
                return False
        waiting = pool.tokens_in_prefill[replica]
        if self.caps.refuse(pool.in_flight[replica], waiting, prompt_tokens):
            return False
        if throttle is not None:
            throttle.accepted(now)
        return True


@dataclass(frozen=True, slots=True)
class Setting:
    """What the gates are set from."""

    limits: Limits
    replicas: int
    ttft_seconds: float
    max_sequences: int
    prefill_tokens_per_second: float


OURS, NONE = "ours: c* running, q waiting", "no limit"


def policies(setting: Setting) -> dict[str, Callable[[], Policy]]:
    """Return a maker of each policy by its name in the table."""
    beside = range(setting.replicas)
    batch = setting.max_sequences
    # vLLM's documentation of the second cap: target TTFT times prefill throughput.
    caps = QueueCaps(
        requests=batch, prefill_tokens=int(setting.ttft_seconds * setting.prefill_tokens_per_second)
    )
    return {
        OURS: lambda: PoolLimit.of(setting.limits, setting.replicas),
        NONE: Open,
        "static: 100 a replica (llm-d)": lambda: Sidecars(limits=[Static(100) for _ in beside]),
        "static: 1.1 x batch (llm-d guide)": lambda: Sidecars(
            limits=[Static(round(1.1 * batch)) for _ in beside]
        ),
        "Gradient2 on RTT": lambda: Sidecars(limits=[Gradient2() for _ in beside]),
        "Gradient2 on TTFT": lambda: Sidecars(
            limits=[Gradient2() for _ in beside], signal=Signal.FIRST_TOKEN
        ),
        "AIMD on RTT, 5 s": lambda: Sidecars(limits=[Aimd() for _ in beside]),
        "AIMD on TTFT": lambda: Sidecars(
            limits=[Aimd(timeout_seconds=setting.ttft_seconds) for _ in beside], signal=Signal.FIRST_TOKEN
        ),
        "vLLM caps: batch, TTFT x prefill": lambda: EngineCaps(caps=caps),
        "SRE throttle over vLLM caps": lambda: EngineCaps(caps=caps, throttle=ClientThrottle()),
    }
