"""A scenario: requests, engine, bounds, and everything that goes wrong on the way.

Times are seconds from the scenario's start. What a policy knows of it comes through `Signals` or its own
constructor: a wrong profile is a scenario whose engine differs from the one the policy was given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter

IntArray = NDArray[np.int64]
LARGEST_FLEET = 64  # replicas
_P90 = 1.2815515655446004  # standard normal quantile


class Routing(StrEnum):
    """How the gateway chooses a replica; values are those of the resource where it has them."""

    RANDOM = "Random"
    ROUND_ROBIN = "RoundRobin"
    POWER_OF_TWO = "PowerOfTwo"
    LEAST_REQUESTS = "LeastRequests"
    LEAST_TOKENS = "LeastTokens"  # prompt and requested output tokens in flight


@dataclass(frozen=True, slots=True)
class Objectives:
    """What a request must meet to count as good."""

    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True, slots=True)
class StartUp:
    """Log-normal time from creation to readiness; `failed_ratio` of the attempts end in a restart.

    A failed attempt takes its whole time and is followed by another in the same pod. Published for
    LLM pods: median 100 s, p90 150 s. `p90_seconds` None: always the median.
    """

    median_seconds: float
    p90_seconds: float | None = None
    failed_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.median_seconds < math.inf:
            raise InvalidParameter("median_seconds", f"must be finite and >= 0, got {self.median_seconds!r}")
        if self.p90_seconds is not None and not 0 < self.median_seconds <= self.p90_seconds < math.inf:
            raise InvalidParameter("p90_seconds", f"must be at least the median, got {self.p90_seconds!r}")
        if not 0 <= self.failed_ratio < 1:
            raise InvalidParameter("failed_ratio", f"must be in [0, 1), got {self.failed_ratio!r}")

    def draw(self, random: np.random.Generator) -> float:
        """Return seconds until a new pod is ready, failed attempts included."""
        seconds = self._attempt(random)
        while random.random() < self.failed_ratio:
            seconds += self._attempt(random)
        return seconds

    def _attempt(self, random: np.random.Generator) -> float:
        if self.p90_seconds is None:
            return self.median_seconds
        sigma = math.log(self.p90_seconds / self.median_seconds) / _P90
        return self.median_seconds * math.exp(sigma * float(random.standard_normal()))


@dataclass(frozen=True, slots=True)
class Scraping:
    """Prometheus as the policy meets it.

    Every replica is scraped at its own offset. A missed scrape hides the replica's gauges until the
    next (staleness marker) and leaves a gap in windows. During an outage (start, end) nothing is
    scraped and every query fails; what was stored before comes back with it. `delay_seconds` passes
    between a scrape and the first query that sees it.
    """

    interval_seconds: float = 15.0
    rate_window_seconds: float = 60.0
    delay_seconds: float = 0.0
    missed_ratio: float = 0.0
    outages: tuple[tuple[float, float], ...] = ()
    staleness_seconds: float = 300.0  # Prometheus's look-back

    def __post_init__(self) -> None:
        if not 0 < self.interval_seconds < math.inf:
            raise InvalidParameter("interval_seconds", f"must be > 0, got {self.interval_seconds!r}")
        if not 0 <= self.missed_ratio <= 1:
            raise InvalidParameter("missed_ratio", f"must be in [0, 1], got {self.missed_ratio!r}")


@dataclass(frozen=True, slots=True)
class Admission:
    """The gateway's limit: requests in flight per ready replica, running and queued.

    Engines run at most `running_limit` sequences; what exceeds ready x (running + queue) is shed, or
    goes to the fallback.
    """

    running_limit: int
    queue_limit: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """A pool of fixed size for what admission refuses; it refuses in turn beyond its own limit."""

    profile: EngineProfile
    replicas: int
    admission: Admission


@dataclass(frozen=True, slots=True)
class SlowReplicas:
    """Pods by number of creation (0 is the first) whose steps take `factor` times as long."""

    factor: float
    replicas: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests in order of arrival and the fleet that serves them; see the parts for units."""

    name: str
    arrivals_seconds: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    profile: EngineProfile
    slo: Objectives
    min_replicas: int
    max_replicas: int
    initial_replicas: int
    start_up: StartUp
    routing: Routing = Routing.LEAST_REQUESTS
    scraping: Scraping = field(default_factory=Scraping)
    admission: Admission | None = None
    fallback: Fallback | None = None
    slow: SlowReplicas | None = None
    end_seconds: float | None = None  # policies decide until then; None: the last arrival, the earliest
