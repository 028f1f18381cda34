"""The cache of solved tables: what cannot be solved is said, and tried again where that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from penstock.controller import tables as module
from penstock.controller.tables import FIRST_RETRY_SECONDS, CapacityTables
from penstock.model.spec import Metric, Objective, ServiceTime, Slo
from penstock.policy.capacity_problem import CapacityProblem, Engine
from penstock.policy.step_factors import AS_PROFILED
from penstock.queueing.balancer import Balancer


def problem(latency_seconds: float = 1.0) -> CapacityProblem:
    return CapacityProblem(
        engine=Engine(None, ServiceTime(0.02, 1.0, 16)),
        cell=None,
        factors=AS_PROFILED,
        slo=Slo((Objective(Metric.LATENCY, 0.95, latency_seconds),)),
        balancer=Balancer.LEAST_REQUESTS,
        max_replicas=4,
        turns_away=True,
    )


class Clock:
    """Seconds, walked by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Dying(Executor):
    """A pool whose only process is killed by whatever it is asked."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("a child process terminated abruptly"))
        return future


async def asked(tables: CapacityTables, what: CapacityProblem) -> None:
    tables.get(what)
    await tables.settled()


@pytest.mark.parametrize(
    ("error", "said", "tries"),
    [
        (ValueError("no solution"), "no solution", 1),
        (ZeroDivisionError("by zero"), "by zero", 1),
        (MemoryError("28 GiB"), "the model could not be solved: MemoryError: 28 GiB", 2),
        (TypeError("a defect"), "the model could not be solved: TypeError: a defect", 2),
    ],
)
def test_whatever_fails_is_said_and_only_what_may_pass_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, tries: int
) -> None:
    solved: list[CapacityProblem] = []

    def solve(what: CapacityProblem) -> None:
        solved.append(what)
        raise error

    async def run() -> None:
        clock = Clock()
        tables = CapacityTables(lambda: ThreadPoolExecutor(1), clock=clock)
        for clock.now in (0.0, 1.0, FIRST_RETRY_SECONDS - 1):
            await asked(tables, problem())
            assert tables.failure(problem()) == said
        assert len(solved) == 1
        clock.now = FIRST_RETRY_SECONDS
        await asked(tables, problem())
        assert (len(solved), tables.failure(problem())) == (tries, said)
        tables.close()

    monkeypatch.setattr(module, "solve", solve)
    asyncio.run(run())


def test_a_solver_that_nobody_needs_goes_and_the_next_problem_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    solvers: list[ThreadPoolExecutor] = []

    def solver() -> ThreadPoolExecutor:
        solvers.append(ThreadPoolExecutor(1))
        return solvers[-1]

    async def run() -> None:
        tables = CapacityTables(solver)
        await asked(tables, problem(1.0))
        await asked(tables, problem(2.0))
        assert len(solvers) == 1, "kept while one problem follows another"
        await asyncio.sleep(0.1)
        with pytest.raises(RuntimeError, match="shutdown"):
            solvers[0].submit(int)
        assert tables.get(problem(1.0)) is not None, "what is solved stays"
        await asked(tables, problem(3.0))
        assert tables.get(problem(3.0)) is not None
        assert len(solvers) == 2
        tables.close()

    asyncio.run(run())


def test_a_solver_that_dies_is_replaced_after_a_pause_that_doubles() -> None:
    async def run() -> None:
        clock, made = Clock(), []
        tables = CapacityTables(lambda: made.append(1) or Dying(), clock=clock)  # type: ignore[func-returns-value]
        for clock.now, solvers in ((0.0, 1), (59.0, 1), (60.0, 2), (179.0, 2), (180.0, 3)):
            await asked(tables, problem())
            assert len(made) == solvers
            assert tables.failure(problem()) == (
                "the process that solved the model died, most likely out of memory"
            )
        await asked(tables, problem(2.0))  # another's problem does not wait for it
        assert len(made) == 4

    asyncio.run(run())


def test_what_is_solved_in_the_end_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        clock, executors = Clock(), [Dying(), ThreadPoolExecutor(1)]
        tables = CapacityTables(lambda: executors.pop(0), clock=clock)
        await asked(tables, problem())
        clock.now = FIRST_RETRY_SECONDS
        await asked(tables, problem())
        assert tables.get(problem()) == "a table"
        assert tables.failure(problem()) == ""
        tables.close()

    monkeypatch.setattr(module, "solve", lambda what: "a table")
    asyncio.run(run())
