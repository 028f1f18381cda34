"""Capacity tables: solved once for equal problems, in another process, so that no tick waits for one."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor

import structlog

from penstock.policy.capacity_problem import CapacityProblem, solve
from penstock.policy.capacity_table import CapacityTable

log = structlog.get_logger(__name__)


class CapacityTables:
    """A bounded cache of solved tables. Least recently used ones go first."""

    def __init__(self, executor: Callable[[], Executor], *, most: int = 4096) -> None:
        self._new_executor = executor
        self._executor: Executor | None = None
        self._most = most
        self._tables: OrderedDict[CapacityProblem, CapacityTable] = OrderedDict()
        self._pending: dict[CapacityProblem, asyncio.Task[None]] = {}
        self._failed: dict[CapacityProblem, str] = {}

    @property
    def pending(self) -> int:
        """Return how many tables are being solved."""
        return len(self._pending)

    def failure(self, problem: CapacityProblem) -> str:
        """Return why a problem cannot be solved; empty when it can."""
        return self._failed.get(problem, "")

    def get(self, problem: CapacityProblem) -> CapacityTable | None:
        """Return the table, or None after having it solved for a later tick."""
        table = self._tables.get(problem)
        if table is not None:
            self._tables.move_to_end(problem)
        elif problem not in self._pending and problem not in self._failed:
            self._pending[problem] = asyncio.get_running_loop().create_task(self._solve(problem))
        return table

    async def settled(self) -> None:
        """Wait until nothing is being solved."""
        while self._pending:
            await asyncio.gather(*self._pending.values())

    async def _solve(self, problem: CapacityProblem) -> None:
        if self._executor is None:
            self._executor = self._new_executor()
        began = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            self._tables[problem] = await loop.run_in_executor(self._executor, solve, problem)
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
            # The solver was killed (out of memory, by hand): a later tick asks again, of a new one.
            log.warning("the capacity solver died and will be restarted")
            self._executor = None
        except (ValueError, ArithmeticError) as error:
            log.warning("a capacity table cannot be solved", problem=repr(problem)[:500], error=str(error))
            self._failed[problem] = str(error)
        finally:
            del self._pending[problem]

    def close(self) -> None:
        """Stop the solver; what is being solved is dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
