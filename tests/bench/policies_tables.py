"""Capacity tables that outlive a run of the benchmark: a day's trace needs some hundred, a second each."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

from penstock.policy import capacity_problem
from penstock.policy.capacity_problem import CapacityProblem
from penstock.policy.capacity_table import CapacityTable
from penstock.sim.policies import sizing


def keep_tables(directory: Path) -> None:
    """Let equal problems be solved once for all runs with this `directory` and this code."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = _stamp()

    def solve(problem: CapacityProblem) -> CapacityTable:
        name = hashlib.sha256(f"{stamp}{problem!r}".encode()).hexdigest()[:32]
        path = directory / f"{name}.table"
        if path.exists():
            table: CapacityTable = pickle.loads(path.read_bytes())
            return table
        table = capacity_problem.solve(problem)
        path.write_bytes(pickle.dumps(table))
        return table

    sizing.solve = solve


def _stamp() -> str:
    """Return a digest of what tables depend on: another model must not find old answers."""
    package = Path(capacity_problem.__file__).parents[1]
    policy = package / "policy"
    names = ("sizing", "capacity_table", "capacity_problem", "admission_law")
    solvers = [policy / f"{name}.py" for name in names]
    parts = [*(package / "queueing").glob("*.py"), *solvers]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sorted(parts))).hexdigest()
