"""Processes that solve capacity tables and never outlive the operator.

An idle worker of a process pool waits on a pipe whose other end it holds itself, so it does not notice
that its parent was killed: after a kill -9 of the operator it stayed for ever, with 60 MB.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def solver_processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of `count` processes; they start with the first problem."""
    # A fork would copy threads and sockets; a spawned solver starts clean.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this process end as soon as the one that spawned it has."""
    threading.Thread(target=_await_parent, name="await parent", daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
