"""Events written behind the caller's back: an Event is not worth delaying a decision.

The queue is bounded. What does not fit is counted and logged, never lost silently; 100 services that
change at once make 100 Events, which are written within half a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from penstock.kube.events import EventRecorder, EventType, ObjectReference

log = structlog.get_logger(__name__)
MOST_WAITING = 2000
WRITERS_AT_ONCE = 4
CLOSING_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """What `EventRecorder.record` takes."""

    about: ObjectReference
    type: EventType
    reason: str
    message: str
    action: str


class EventOutbox:
    """Takes Events at once and writes them soon; `written` and `dropped` are told each one's reason."""

    def __init__(
        self,
        recorder: EventRecorder,
        *,
        written: Callable[[str], None],
        dropped: Callable[[str], None],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._recorder = recorder
        self._written, self._dropped = written, dropped
        self._most_waiting = most_waiting
        self._waiting: deque[PendingEvent] = deque()
        self._writers: set[asyncio.Task[None]] = set()
        self._full = False

    def put(self, event: PendingEvent) -> None:
        """Take an Event; needs a running loop."""
        if len(self._waiting) >= self._most_waiting:
            self._dropped(event.reason)
            if not self._full:
                self._full = True
                log.warning("events are dropped", waiting=len(self._waiting), reason=event.reason)
            return
        self._waiting.append(event)
        if len(self._writers) < WRITERS_AT_ONCE:
            writer = asyncio.get_running_loop().create_task(self._write(), name="events")
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    async def settled(self) -> None:
        """Wait until everything is written."""
        while self._writers:
            await asyncio.wait(self._writers)

    async def close(self) -> None:
        """Write what waits, but not for long; say how much is given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.settled()
        given_up = len(self._waiting) + len(self._writers)
        for event in self._waiting:
            self._dropped(event.reason)
        self._waiting.clear()
        for writer in tuple(self._writers):
            writer.cancel()
        await self.settled()
        if given_up:
            log.warning("events are given up at the end", events=given_up)

    async def _write(self) -> None:
        """Write until nothing waits."""
        while self._waiting:
            event = self._waiting.popleft()
            try:
                done = await self._recorder.record(
                    event.about, event.type, reason=event.reason, message=event.message, action=event.action
                )
            except asyncio.CancelledError:
                self._dropped(event.reason)
                raise
            if done:
                self._written(event.reason)
        self._full = False
