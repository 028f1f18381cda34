"""Bounds how many questions are under way at once, and shares the places out among those who ask.

The operator's own questions go first. A tenant's wait for one another and not for other tenants': a free
place goes to the one with the fewest under way, in turns. First come, first served, 30 queries of one
namespace that time out after 2 s each held all six places for the whole of a tick.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

OPERATOR = ""


class FairGate:
    """Places of one tick. A tenant gets all but one of them, and one alone once it was `slowed_down`."""

    def __init__(self, places: int) -> None:
        self._places = self._free = places
        self._under_way = Counter[str]()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the next in turn first
        self._slow: set[str] = set()

    def slow_down(self, asker: str) -> None:
        """Let this tenant's questions come one at a time from now on: one of them has timed out."""
        if asker != OPERATOR:
            self._slow.add(asker)

    def is_slow(self, asker: str) -> bool:
        """Whether this tenant was slowed down."""
        return asker in self._slow

    @asynccontextmanager
    async def place(self, asker: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it within the context."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asker, deque()).append(turn)
        self._admit()
        try:
            await turn
            yield
        finally:
            if not turn.cancelled():  # else it was never given one
                self._under_way[asker] -= 1
                self._free += 1
            self._admit()

    def _admit(self) -> None:
        """Give the free places away."""
        while self._free:
            asker = self._next()
            if asker is None:
                return
            turns = self._waiting.pop(asker)
            turn = turns.popleft()
            if turns:
                self._waiting[asker] = turns  # behind all others
            if not turn.cancelled():
                self._under_way[asker] += 1
                self._free -= 1
                turn.set_result(None)

    def _next(self) -> str | None:
        """Return who gets the next place; None: nobody who waits may have one."""
        if OPERATOR in self._waiting:
            return OPERATOR
        idle = next((each for each in self._waiting if not self._under_way[each]), None)
        if idle is not None:
            return idle  # the usual case, found without a look at all of a thousand tenants
        able = [each for each in self._waiting if self._under_way[each] < self._most(each)]
        return min(able, key=lambda each: self._under_way[each], default=None)

    def _most(self, asker: str) -> int:
        return 1 if asker in self._slow else max(1, self._places - 1)
