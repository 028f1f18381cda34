"""A request trace for ``--trace``, and its busiest minute.

csv or csv.gz with the columns arrival_s (seconds, not decreasing), input_tokens and output_tokens (at
least 1). The busiest window is the half-open [t, t + 60 s) with most requests among those that start
with an arrival: no other window can hold more. The last of equals would do as well; the first is taken.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from penstock.cli.plan_fault import PlanFault
from penstock.queueing.domain import FloatArray

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
WINDOW_SECONDS = 60.0
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival: seconds and tokens, one entry each."""

    arrivals: FloatArray
    inputs: FloatArray
    outputs: FloatArray


@dataclass(frozen=True, slots=True)
class BusyWindow:
    """The busiest stretch of a trace: its requests, where it starts, how long it is."""

    trace: Trace
    start_seconds: float
    length_seconds: float

    @property
    def rate_per_second(self) -> float:
        """Requests per second of the window."""
        return self.trace.arrivals.size / self.length_seconds

    @property
    def dispersion(self) -> float:
        """Variance over mean of its 1-s counts: 1 for Poisson, more for bursts."""
        edges = self.start_seconds + np.arange(math.ceil(self.length_seconds) + 1)
        counts, _ = np.histogram(self.trace.arrivals, bins=edges)
        return float(counts.var(ddof=1) / counts.mean()) if counts.size > 1 and counts.mean() > 0 else 1.0


def read_trace(path: Path) -> Trace:
    """Return the requests of a file. Raises PlanFault with the line and what to write there."""
    rows = list(_rows(path, io.StringIO(_text(path), newline="")))
    if not rows:
        raise PlanFault(f"{path} has no requests", f"write one line per request below {','.join(COLUMNS)}")
    table = np.asarray(rows)
    return Trace(table[:, 0], table[:, 1], table[:, 2])


def busiest_window(trace: Trace, path: Path) -> BusyWindow:
    """Return the busiest 60 s; of a shorter trace all of it. Raises PlanFault if that gives no rate."""
    arrivals = trace.arrivals
    span = float(arrivals[-1] - arrivals[0])
    if span == 0:
        raise PlanFault(
            f"{path}: all {arrivals.size} requests arrive at {arrivals[0]:g} s, which is no rate",
            "give a trace of some minutes, or --rate with --input-tokens and --output-tokens",
        )
    if span < WINDOW_SECONDS:
        # n arrivals over the span of n - 1 gaps: the rate is that of the gaps.
        return BusyWindow(trace, float(arrivals[0]), span * arrivals.size / (arrivals.size - 1))
    ends = np.searchsorted(arrivals, arrivals + WINDOW_SECONDS, side="left")
    counts = ends - np.arange(arrivals.size)
    first = int(np.argmax(counts))
    inside = slice(first, int(ends[first]))
    requests = Trace(arrivals[inside], trace.inputs[inside], trace.outputs[inside])
    return BusyWindow(requests, float(arrivals[first]), WINDOW_SECONDS)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        # Recognised by its first bytes: a compressed file without the suffix is read all the same.
        compressed = content.startswith(_GZIP_MAGIC)
        if content and path.suffix == ".gz" and not compressed:
            raise PlanFault(
                f"{path} is named .gz but is not gzip", "compress it with gzip, or rename it to .csv"
            )
        return (gzip.decompress(content) if compressed else content).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PlanFault(
            f"{path}: not a whole gzip file: {error}", "compress it again, or give the plain .csv"
        ) from error
    except UnicodeDecodeError as error:
        raise PlanFault(f"{path} is not text: byte {error.start} is not UTF-8", "give a CSV file") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise PlanFault(f"{path} cannot be read: {why}", "give a file that can be read") from error


def _rows(path: Path, lines: IO[str]) -> Iterator[tuple[float, float, float]]:
    reader = csv.reader(lines)
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing and not header:
        raise PlanFault(f"{path} is empty", f"write the header {','.join(COLUMNS)} and one line per request")
    if missing:
        raise PlanFault(
            f"{path}, line 1: no column {' and '.join(missing)} (found {','.join(header)})",
            f"write the header {','.join(COLUMNS)}",
        )
    at, prompt, answer = (header.index(name) for name in COLUMNS)
    previous, previous_line = -math.inf, 1
    for row in reader:
        line = reader.line_num
        if not row:
            continue
        if len(row) < len(header):
            raise PlanFault(
                f"{path}, line {line}: {len(row)} fields instead of {len(header)}",
                "write a value for every column",
            )
        arrival = _number(
            path, line, "arrival_s", row[at], 0.0, "seconds from the start of the trace, at least 0"
        )
        if arrival < previous:
            raise PlanFault(
                f"{path}, line {line}: arrival_s {arrival:g} is before line {previous_line}'s {previous:g}",
                "sort the lines by arrival_s",
            )
        previous, previous_line = arrival, line
        tokens = "a number of tokens, at least 1"
        yield (
            arrival,
            _number(path, line, "input_tokens", row[prompt], 1.0, tokens),
            _number(path, line, "output_tokens", row[answer], 1.0, tokens),
        )


def _number(path: Path, line: int, column: str, text: str, least: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        shown = repr(text.strip()) if text.strip() else "empty"
        raise PlanFault(f"{path}, line {line}: {column} is {shown}", f"write {what}, or drop the line")
    return value
