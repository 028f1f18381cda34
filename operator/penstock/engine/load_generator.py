"""Open-loop load: every request leaves when it is due, whatever happened to those before.

A closed loop (so many clients, each waiting for its answer) slows down with the server and hides
its queue; an open loop does not. So the generator measures itself: `send_lag` is how late requests
left against their schedule. Memory and connections are bounded by `max_in_flight`; what is due
beyond that is not sent and reported as such.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import aiohttp

from penstock.engine.arrivals import PlannedRequest
from penstock.engine.lag import StepLag
from penstock.engine.lag_watch import EngineLagWatch
from penstock.engine.latency_sample import LatencySample
from penstock.engine.stream_client import Connections, RequestRecord, RequestShape, stream_completion
from penstock.engine.targets import Targets

NO_TARGET = "no target"
IN_FLIGHT_LIMIT = "in-flight limit"
# vLLM closes idle connections after 5 s; a request sent at that instant is reset before it is read.
IDLE_CONNECTION_SECONDS = 2.0
REFRESH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How far a load may go."""

    duration_seconds: float
    max_in_flight: int = 2000
    request_timeout_seconds: float = 300.0
    drain_seconds: float = 60.0  # after the last request left, for the answers
    warmup_seconds: float = 0.0  # requests due before are sent, not reported


@dataclass(slots=True)
class LoadResult:
    """What a load measured."""

    records: list[RequestRecord] = field(default_factory=list)  # due after the warm-up
    warmup_records: list[RequestRecord] = field(default_factory=list)  # their answers may come after it
    inter_token: LatencySample = field(default_factory=LatencySample)
    send_lag: LatencySample = field(default_factory=LatencySample)
    engine_lag: StepLag = field(default_factory=StepLag)
    sent: int = 0  # warm-up included
    in_flight: int = 0
    elapsed_seconds: float = 0.0
    stopped_seconds: float | None = None  # when it was told to send no more
    interrupted: bool = False  # without waiting for answers


class LoadGenerator:
    """Sends one schedule; `result` grows while `run` runs.

    `engines` are asked for their step lag; default: the targets, which are engines where no gateway is
    in between.
    """

    def __init__(
        self,
        targets: Targets,
        shape: RequestShape,
        limits: LoadLimits,
        *,
        seed: int = 0,
        engines: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self.result = LoadResult()
        self.on_record: Callable[[RequestRecord], None] | None = None
        self._targets = targets
        self._engines = engines or (lambda: targets.urls)
        self._shape = shape
        self._limits = limits
        # Prompts of an earlier run are in a real engine's prefix cache: the seed repeats the load, not them.
        self._salt = secrets.randbits(32) + seed * 1_000_003
        self._start = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Send no more: `run` waits for the answers to what was sent, as after the whole plan."""
        if self.result.stopped_seconds is None:
            self.result.stopped_seconds = self._now() if self._sending else 0.0
        if self._sending is not None:
            self._sending.cancel()

    async def run(self, plan: Iterable[PlannedRequest]) -> LoadResult:
        """Send `plan` and wait for the answers; when cancelled, keep what was measured so far."""
        result = self.result
        timeout = aiohttp.ClientTimeout(total=self._limits.request_timeout_seconds)
        if self._shape.connections is Connections.NEW:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
        else:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._targets.refresh()
            watch = EngineLagWatch(session)
            await watch.poll(self._engines())
            self._start = asyncio.get_running_loop().time()
            background = [
                asyncio.create_task(self._follow_targets()),
                asyncio.create_task(self._watch_engines(watch)),
            ]
            try:
                if result.stopped_seconds is None:
                    await self._send_until_stopped(session, plan)
                await self._wait_for_answers()
                await watch.poll(self._engines())
            except asyncio.CancelledError:
                result.interrupted = True
                raise
            finally:
                for task in (*background, *self._tasks):
                    task.cancel()
                await asyncio.gather(*background, *self._tasks, return_exceptions=True)
                result.engine_lag = watch.total
                result.elapsed_seconds = self._now()
        return result

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._start

    async def _send_until_stopped(
        self, session: aiohttp.ClientSession, plan: Iterable[PlannedRequest]
    ) -> None:
        self._sending = asyncio.create_task(self._send_all(session, plan))
        try:
            await self._sending
        except asyncio.CancelledError:
            if self.result.stopped_seconds is None:  # it is this task that was cancelled
                raise
        finally:
            self._sending.cancel()

    async def _send_all(self, session: aiohttp.ClientSession, plan: Iterable[PlannedRequest]) -> None:
        for number, planned in enumerate(plan):
            wait = planned.at_seconds - self._now()
            if wait > 0:
                await asyncio.sleep(wait)
            elif number % 64 == 0:
                await asyncio.sleep(0)  # a burst, or catching up: let the answers be read meanwhile
            record = RequestRecord(planned)
            reported = planned.at_seconds >= self._limits.warmup_seconds
            (self.result.records if reported else self.result.warmup_records).append(record)
            if len(self._tasks) >= self._limits.max_in_flight:
                record.outcome = IN_FLIGHT_LIMIT
                self._done(record)
                continue
            task = asyncio.create_task(self._send(session, record, self._salt + number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # To the end of the period even if its last requests are long answered: rates are per period.
        await asyncio.sleep(self._limits.duration_seconds - self._now())

    async def _send(self, session: aiohttp.ClientSession, record: RequestRecord, salt: int) -> None:
        url = self._targets.take()
        if url is None:
            record.outcome = NO_TARGET
            self._done(record)
            return
        result = self.result
        record.url, record.sent_at = url, self._now()
        result.sent += 1
        result.in_flight += 1
        reported = record.planned.at_seconds >= self._limits.warmup_seconds
        if reported:
            result.send_lag.add(record.sent_at - record.planned.at_seconds)
        try:
            await stream_completion(
                session,
                record,
                url=url,
                body=self._shape.body(record.planned, salt),
                shape=self._shape,
                now=self._now,
                on_gap=result.inter_token.add if reported else _ignore,
            )
        finally:
            self._targets.release(url)
            result.in_flight -= 1
            self._done(record)

    def _done(self, record: RequestRecord) -> None:
        if self.on_record is not None:
            self.on_record(record)

    async def _wait_for_answers(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._limits.drain_seconds)

    async def _follow_targets(self) -> None:
        while True:
            self._targets.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def _watch_engines(self, watch: EngineLagWatch) -> None:
        while True:
            await asyncio.sleep(EngineLagWatch.INTERVAL_SECONDS)
            await watch.poll(self._engines())


def _ignore(_seconds: float) -> None:
    """Leave the warm-up out."""
