"""Processes that solve capacity tables, behind whatever else wants the CPU, and never outlive the operator.

An idle worker of a process pool waits on a pipe whose other end it holds itself, so it does not notice
that its parent was killed: after a kill -9 of the operator it stayed for ever, with 60 MB.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

# A tick of 0.6 s took 0.2 s longer while a table of 0.3 s was solved on the same core.
NICENESS = 10


def solver_processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of `count` processes; they start with the first problem."""
    # A fork would copy threads and sockets; a spawned solver starts clean.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=begin_solver)


def begin_solver() -> None:
    """Let this process stand back, and end as soon as the one that spawned it has."""
    os.nice(NICENESS)
    threading.Thread(target=_await_parent, name="await parent", daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
