"""The decision code on recorded observations of one service: no cluster, no clock, no other process.

What the operator's tick does between collecting and writing, with capacity tables solved when they are
asked for. A stream that says which table was at hand is decided with that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from penstock.model.observation import Pool
from penstock.model.spec import ServiceSpec
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem, resolve_engine
from penstock.policy.capacity_table import CapacityTable
from penstock.policy.decisions import Decided, decide
from penstock.policy.memory import ServiceMemory
from penstock.records.fault import RecordFault
from penstock.records.observation import Recorded, Unsaid
from penstock.records.written import with_written, written_by_the_look

Solve = Callable[[CapacityProblem], CapacityTable | None]  # None: it cannot be solved


class ServiceReplay:
    """Decides on one service, observation by observation. Raises UnknownProfile for its engine."""

    def __init__(self, spec: ServiceSpec, times: LoopTimes, solve: Solve) -> None:
        self._spec, self._times, self._solve = spec, times, solve
        self._engine = resolve_engine(spec.engine)
        self._memory = ServiceMemory()
        self._table: CapacityTable | None = None
        self._at = -math.inf
        self._pool: Pool | None = None
        self._decided: int | None = None

    def decide(self, recorded: Recorded) -> Decided:
        """Return the decisions at the next instant. Raises RecordFault where time goes backwards."""
        seen = recorded.seen
        # What begins anew looks at nothing before it: after a clock that was set back, its times are earlier.
        if recorded.begin is None and seen.at <= self._at:
            raise RecordFault("at", f"{seen.at:.3f} is not after {self._at:.3f}, the observation before")
        self._begin(recorded)
        memory = beliefs.observe(self._spec, self._engine, seen, self._memory, self._times)
        self._table = self._at_hand(recorded, memory)
        solved = recorded.solved
        cell = None if isinstance(solved, Unsaid) or solved is None else solved.cell
        believed = beliefs.estimate(self._spec, self._engine, seen, memory, self._table, self._times, cell)
        decided = decide(self._spec, seen, believed, memory, recorded.around)
        self._memory, self._decided = decided.memory, decided.replicas.value
        self._at, self._pool = seen.at, seen.pool
        return decided

    def _begin(self, recorded: Recorded) -> None:
        """Bring what is remembered up to the moment before an observation."""
        if recorded.begin is not None:
            self._memory, self._times, self._table = recorded.begin.memory, recorded.begin.times, None
            return
        written = recorded.written
        if isinstance(written, Unsaid):
            pool = recorded.seen.pool
            written = written_by_the_look(self._spec, self._decided, self._pool, pool, self._at)
        if written is not None:
            self._memory = with_written(self._memory, written)

    def _at_hand(self, recorded: Recorded, memory: ServiceMemory) -> CapacityTable | None:
        solved = recorded.solved
        if isinstance(solved, Unsaid):
            problem = beliefs.problem(self._spec, self._engine, memory)
            # One that cannot be solved leaves the table of before, as in the operator.
            return self._table if problem is None else self._solve(problem) or self._table
        if solved is None:
            return None
        return self._solve(beliefs.problem_of(self._spec, self._engine, solved.cell, solved.factors))
