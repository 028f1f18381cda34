"""Admission algorithms of others, as pure classes: time, latency samples and random draws are arguments.

* Gradient2, AIMD: Netflix concurrency-limits. Samples carry the in-flight count as it was when the
  request began, as that library's listeners do. Constants are its defaults.
* Client throttle: Google SRE book, "Handling overload": K = 2 over two minutes.
* Queue caps: vLLM's `--max-num-queued-reqs` and `--max-num-queued-tokens`.
* Static: llm-d's concurrency detector with its default of 100 requests a replica.

`Signal` says which latency feeds an adaptive limit: RTT of a stream is mostly its length.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Signal(Enum):
    """Which moment of a stream gives an adaptive limit its sample."""

    FIRST_TOKEN = "ttft"
    LAST_TOKEN = "rtt"


class Limit(Protocol):
    """A number of requests that may be in flight at one replica; samples may move it."""

    @property
    def limit(self) -> int:
        """Return how many may be in flight now."""

    def sample(self, seconds: float, in_flight_at_start: int, *, dropped: bool) -> None:
        """Take in one latency, or a refusal further down (`dropped`)."""


@dataclass(slots=True)
class Static:
    """A limit somebody chose."""

    limit: int

    def sample(self, seconds: float, in_flight_at_start: int, *, dropped: bool) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class ExponentialAverage:
    """The mean of the first `warm_up` samples, then an EWMA with factor 2/(window + 1)."""

    window: int = 600
    warm_up: int = 10
    value: float = 0.0
    _count: int = 0
    _sum: float = 0.0

    def add(self, sample: float) -> float:
        """Return the average with `sample` in it."""
        if self._count < self.warm_up:
            self._count += 1
            self._sum += sample
            self.value = self._sum / self._count
        else:
            factor = 2.0 / (self.window + 1)
            self.value += factor * (sample - self.value)
        return self.value


@dataclass(slots=True)
class Gradient2:
    """L <- (1-s) L + s (g L + queue), g = long/short latency times tolerance within 0.5..1."""

    least: int = 20
    most: int = 200
    smoothing: float = 0.2
    queue: int = 4
    tolerance: float = 1.5
    estimate: float = 20.0
    average: ExponentialAverage = field(default_factory=ExponentialAverage)

    @property
    def limit(self) -> int:
        """Return the whole part of the estimate."""
        return int(self.estimate)

    def sample(self, seconds: float, in_flight_at_start: int, *, dropped: bool) -> None:
        """Move by the gradient of this sample against the long average; refusals are not looked at."""
        long = self.average.add(seconds)
        if long / seconds > 2:
            self.average.value *= 0.95  # back from an overload: forget it faster
        if in_flight_at_start < self.estimate / 2:
            return
        gradient = max(0.5, min(1.0, self.tolerance * long / seconds))
        target = self.estimate * gradient + self.queue
        moved = self.estimate * (1 - self.smoothing) + target * self.smoothing
        self.estimate = max(self.least, min(self.most, moved))


@dataclass(slots=True)
class Aimd:
    """One more while latency stays below the time-out and the limit is used; else times `backoff`."""

    timeout_seconds: float = 5.0
    least: int = 20
    most: int = 200
    backoff: float = 0.9
    limit: int = 20

    def sample(self, seconds: float, in_flight_at_start: int, *, dropped: bool) -> None:
        """Step up or back off."""
        moved = self.limit
        if dropped or seconds > self.timeout_seconds:
            moved = int(self.limit * self.backoff)
        elif in_flight_at_start * 2 >= self.limit:
            moved = self.limit + 1
        self.limit = max(self.least, min(self.most, moved))


@dataclass(slots=True)
class ClientThrottle:
    """Reject locally with p = max(0, (requests - K accepts)/(requests + 1)) over a sliding window.

    Both are counted when the request was sent: with streams longer than the window, counting at the
    end would throttle a healthy backend.
    """

    multiplier: float = 2.0
    window_seconds: float = 120.0
    _requests: deque[float] = field(default_factory=deque)
    _accepts: deque[float] = field(default_factory=deque)

    def rejection_probability(self, now: float) -> float:
        """Return p at `now`."""
        for times in (self._requests, self._accepts):
            while times and times[0] <= now - self.window_seconds:
                times.popleft()
        requests, accepts = len(self._requests), len(self._accepts)
        return max(0.0, (requests - self.multiplier * accepts) / (requests + 1))

    def requested(self, now: float) -> None:
        """Count a request, also one that is then rejected locally."""
        self._requests.append(now)

    def accepted(self, sent_at: float) -> None:
        """Count a request the backend took."""
        self._accepts.append(sent_at)


@dataclass(frozen=True, slots=True)
class QueueCaps:
    """vLLM's own caps: 503 when one would be exceeded. None: that cap is off."""

    requests: int | None = None  # waiting and running
    prefill_tokens: int | None = None  # prompts that have no first token yet

    def refuse(self, unfinished: int, tokens_in_prefill: int, prompt_tokens: int) -> bool:
        """Whether the engine answers 503 to one more request with this prompt."""
        if self.requests is not None and unfinished + 1 > self.requests:
            return True
        return self.prefill_tokens is not None and tokens_in_prefill + prompt_tokens > self.prefill_tokens


@dataclass(slots=True)
class RetryingClient:
    """When the OpenAI client comes back: two retries, 0.5 s doubling to 8 s, up to a quarter less.

    A `Retry-After` of at most two minutes is taken as it is.
    """

    retries: int = 2
    first_seconds: float = 0.5
    longest_seconds: float = 8.0
    longest_retry_after_seconds: float = 120.0

    def wait_seconds(self, attempt: int, retry_after_seconds: float | None, draw: float) -> float | None:
        """Return the wait after refusal number `attempt` (0 the first); None: it gives up.

        `draw` is uniform in 0..1.
        """
        if attempt >= self.retries:
            return None
        if retry_after_seconds is not None:
            if retry_after_seconds > self.longest_retry_after_seconds:
                return None
            if retry_after_seconds > 0:
                return retry_after_seconds
        return min(self.longest_seconds, self.first_seconds * 2.0**attempt) * (1 - 0.25 * draw)
