"""Capacity tables: solved once for equal problems, in another process, so that no tick waits for one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass

import structlog

from penstock.policy.capacity_problem import CapacityProblem, solve
from penstock.policy.capacity_table import CapacityTable

log = structlog.get_logger(__name__)
# A problem that kills its solver takes the others' table with it: each time it waits twice as long.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 3600.0
NEVER = float("inf")
# A solver that waits holds 60 MB; the next problem starts another in a second or two, beside the ticks.
IDLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a problem was not solved, and when it may be tried again (seconds of the clock)."""

    reason: str
    pause_seconds: float
    again_at: float


class CapacityTables:
    """A bounded cache of solved tables. Least recently used ones go first."""

    def __init__(
        self,
        executor: Callable[[], Executor],
        *,
        most: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._new_executor = executor
        self._clock = clock
        self._executor: Executor | None = None
        self._resting: asyncio.TimerHandle | None = None  # runs while nothing is being solved
        self._most = most
        self._tables: OrderedDict[CapacityProblem, CapacityTable] = OrderedDict()
        self._pending: dict[CapacityProblem, asyncio.Task[None]] = {}
        self._failed: dict[CapacityProblem, _Failure] = {}

    @property
    def pending(self) -> int:
        """Return how many tables are being solved."""
        return len(self._pending)

    def failure(self, problem: CapacityProblem) -> str:
        """Return why a problem cannot be solved; empty when it can, or was not tried."""
        failed = self._failed.get(problem)
        return "" if failed is None else failed.reason

    def get(self, problem: CapacityProblem) -> CapacityTable | None:
        """Return the table, or None after having it solved for a later tick."""
        table = self._tables.get(problem)
        if table is not None:
            self._tables.move_to_end(problem)
        elif problem not in self._pending and self._may_try(problem):
            self._pending[problem] = asyncio.get_running_loop().create_task(self._solve(problem))
        return table

    async def settled(self) -> None:
        """Wait until nothing is being solved."""
        while self._pending:
            await asyncio.gather(*self._pending.values())

    def _may_try(self, problem: CapacityProblem) -> bool:
        failed = self._failed.get(problem)
        return failed is None or self._clock() >= failed.again_at

    async def _solve(self, problem: CapacityProblem) -> None:
        began, loop = time.monotonic(), asyncio.get_running_loop()
        if self._resting is not None:
            self._resting.cancel()
        if self._executor is None:
            self._executor = self._new_executor()
        executor = self._executor
        try:
            self._tables[problem] = await loop.run_in_executor(executor, solve, problem)
            self._failed.pop(problem, None)
            while len(self._tables) > self._most:
                self._tables.popitem(last=False)
            log.info(
                "a capacity table is solved",
                seconds=round(time.monotonic() - began, 1),
                pending=self.pending - 1,
                cell=repr(problem.cell),
                factors=repr(problem.factors),
            )
        except BrokenExecutor:
            # Killed (out of memory, by hand). All that were pending hear of it; the next comes once.
            if self._executor is executor:
                self._executor = None
            self._fail(problem, "the process that solved the model died, most likely out of memory")
        except (ValueError, ArithmeticError) as error:
            self._fail(problem, str(error), again=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, the service's condition says it
            self._fail(problem, f"the model could not be solved: {type(error).__name__}: {error}")
        finally:
            del self._pending[problem]
            if not self._pending:
                self._resting = loop.call_later(IDLE_SECONDS, self.close)

    def _fail(self, problem: CapacityProblem, reason: str, *, again: bool = True) -> None:
        failed = self._failed.get(problem)
        pause = (
            FIRST_RETRY_SECONDS if failed is None else min(2 * failed.pause_seconds, LONGEST_RETRY_SECONDS)
        )
        log.warning(
            "a capacity table cannot be solved",
            problem=repr(problem)[:500],
            error=reason,
            retry_seconds=pause if again else None,
        )
        self._failed[problem] = _Failure(reason, pause, self._clock() + pause if again else NEVER)

    def close(self) -> None:
        """Stop the solver; what is being solved is dropped. Another problem starts a new one."""
        if self._resting is not None:
            self._resting.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
