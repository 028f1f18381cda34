"""Standard input and output that are closed or full: an error with a fix and not a traceback.

A stream that is closed from the start is None in Python. What fails later is an OSError that does not say
whose it is, so standard output is written through a file that does. A reader that has gone (EPIPE) is no
error: click and the commands end quietly then.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from penstock.cli.plan_fault import PlanFault


class OutputFault(click.ClickException):
    """Standard output that takes nothing; `why` is the system's word for it."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"standard output cannot be written: {why}\nFix: send it to a file or a program that takes it"
        )


class _OutputFile(io.FileIO):
    """A file that raises OutputFault where it cannot be written."""

    def write(self, data: Any, /) -> int:
        """Write as FileIO does."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is still buffered would fail again when Python ends, with words and a status of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            raise OutputFault(error.strerror or str(error)) from error


def watch_output() -> None:
    """Let failures of standard output be OutputFaults from now on; what a test has put there stays."""
    out = sys.stdout
    if out is None or out is not sys.__stdout__ or not isinstance(out, io.TextIOWrapper):
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_OutputFile(out.fileno(), "wb", closefd=False)),
        encoding=out.encoding,
        errors=out.errors,
        line_buffering=out.line_buffering,
        write_through=out.write_through,
    )


def require_output() -> None:
    """Raise OutputFault where standard output is closed."""
    if sys.stdout is None:
        raise OutputFault("it is closed")


def require_input() -> None:
    """Raise PlanFault where standard input is closed."""
    if sys.stdin is None:
        raise PlanFault("standard input is closed", "give a file, or send its content to standard input")
