"""A replica in real time: runs the batch loop and sleeps through each step.

Steps follow a schedule of absolute times: a step begins where the last one was due to end (or when
a request arrives at an idle engine), whatever the event loop's delay. So lag never accumulates into
throughput; it only delays the tokens of its own step, and is measured. One timer a step, not one a
token: all streams of a step are woken together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from penstock.engine.batch_loop import BatchLoop, EngineLimits, Sequence, StepResult, StepWork
from penstock.engine.lag import StepLag, StepTiming


class TokenStream:
    """The tokens of one request as they are generated."""

    __slots__ = ("_taken", "_wake", "sequence")

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self._taken = 0
        self._wake: asyncio.Future[None] | None = None

    async def next_tokens(self) -> int:
        """Wait for tokens and return how many there are since the last call; 0 after the last one."""
        while self.sequence.generated_tokens == self._taken:
            if self.sequence.finished:
                return 0
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        fresh = self.sequence.generated_tokens - self._taken
        self._taken = self.sequence.generated_tokens
        return fresh

    def wake(self) -> None:
        """Let `next_tokens` look again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class Replica:
    """Serves requests with the timing of `step_seconds`, plus `frontend_seconds` before the first step."""

    def __init__(
        self,
        *,
        limits: EngineLimits,
        step_seconds: Callable[[StepWork], float],
        frontend_seconds: float,
    ) -> None:
        self.batch = BatchLoop(limits)
        self.lag = StepLag()
        self.on_step: Callable[[StepResult, StepTiming], None] | None = None
        self._step_seconds = step_seconds
        self._frontend_seconds = frontend_seconds
        self._streams: dict[Sequence, TokenStream] = {}
        self._submitted = asyncio.Event()

    def submit(self, *, input_tokens: int, output_tokens: int) -> TokenStream:
        """Accept a request now; the engine sees it after the front-end time. Raises `DoesNotFitError`."""
        arrived_at = asyncio.get_running_loop().time() + self._frontend_seconds
        sequence = self.batch.submit(
            input_tokens=input_tokens, output_tokens=output_tokens, arrived_at=arrived_at
        )
        stream = self._streams[sequence] = TokenStream(sequence)
        self._submitted.set()
        return stream

    def drop(self, stream: TokenStream) -> None:
        """Stop generating for a client that is gone."""
        self._streams.pop(stream.sequence, None)
        self.batch.drop(stream.sequence)

    @property
    def in_flight(self) -> int:
        """Requests accepted and not complete."""
        return len(self._streams)

    async def run(self) -> None:
        """Step for ever."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            work = self.batch.begin_step(due)
            if work is None:
                due = await self._next_arrival(due)
                continue
            seconds = self._step_seconds(work)
            due += seconds
            await asyncio.sleep(due - clock())  # past due: lets the other tasks run once, then catches up
            now = clock()
            result = self.batch.finish_step(now)
            timing = StepTiming(seconds, max(0.0, now - due))
            self.lag = self.lag.after(timing)
            if self.on_step is not None:
                self.on_step(result, timing)
            for sequence in result.emitted:
                self._streams[sequence].wake()
            for sequence in result.finished:
                del self._streams[sequence]

    async def _next_arrival(self, idle_since: float) -> float:
        clock = asyncio.get_running_loop().time
        upcoming = self.batch.next_arrival()
        while upcoming is None:
            self._submitted.clear()
            await self._submitted.wait()
            upcoming = self.batch.next_arrival()
        await asyncio.sleep(upcoming - clock())
        return max(idle_since, upcoming)
