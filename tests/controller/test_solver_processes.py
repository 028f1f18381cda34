"""The solver's processes: behind the operator while it lives, gone when it is, however it ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from penstock.controller.solver import NICENESS, solver_processes

SCRIPT = """
import os, time
from penstock.controller.solver import solver_processes
if __name__ == "__main__":
    pool = solver_processes(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_a_solver_does_not_outlive_a_killed_operator(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            solver = int(parent.stdout.readline())
            os.kill(solver, 0)
        finally:
            parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(solver, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(solver, 9)
    raise AssertionError("the solver outlived the operator that was killed")


def test_a_solver_leaves_the_cpu_to_the_operator():
    with solver_processes(1) as pool:
        assert pool.submit(os.getpriority, os.PRIO_PROCESS, 0).result() == os.nice(0) + NICENESS
