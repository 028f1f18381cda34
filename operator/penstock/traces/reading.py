"""Request traces: csv or csv.gz with the columns arrival_s, input_tokens and output_tokens.

Seconds must not decrease, tokens are whole and at least 1; other columns may stand beside them. Rows are
streamed and those of the part that is asked for kept in 32 bytes each, so what is held is bounded by
`MOST_REQUESTS`, not by the file.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.queueing.domain import FloatArray
from penstock.traces.fault import SilentSpan, TraceFault
from penstock.traces.lines import text_lines

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
MOST_REQUESTS = 10_000_000  # 320 MB; the largest day at hand has 0.7 million
# Unix time in seconds passes until the year 5138; in milliseconds it does not.
_LATEST_SECONDS = 1e11
_MOST_TOKENS = 10_000_000.0
_HEADER = ",".join(COLUMNS)
_SECONDS = "seconds from the start of the trace, at least 0"
_TOKENS = "a number of tokens, at least 1"


class TracedRequest(NamedTuple):
    """One row."""

    arrival_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival: seconds and tokens, one entry each; where they were read from."""

    arrivals: FloatArray
    inputs: NDArray[np.int64]
    outputs: NDArray[np.int64]
    path: Path | None = None
    lines: NDArray[np.int64] | None = None

    def part(self, inside: slice) -> Trace:
        """Return these requests alone, which remember their lines."""
        lines = None if self.lines is None else self.lines[inside]
        return Trace(self.arrivals[inside], self.inputs[inside], self.outputs[inside], self.path, lines)

    def place(self, index: int) -> str:
        """Return where a request stands: file and line, or its number in a trace that was not read."""
        return f"request {index}" if self.lines is None else f"{self.path}, line {self.lines[index]}"


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a trace from `start_seconds` on that ends before `end_seconds`."""

    start_seconds: float = 0.0
    end_seconds: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.end_seconds):
            return f" from {self.start_seconds:,.0f} s on" if self.start_seconds else ""
        return f" between {self.start_seconds:,.0f} s and {self.end_seconds:,.0f} s"


WHOLE = Span()


def read_trace(path: Path, most: int = MOST_REQUESTS, *, span: Span = WHOLE) -> Trace:
    """Return the requests of a file in `span`; what comes after it is not read.

    Raises TraceFault with the line and what to write there, SilentSpan where nothing arrives.
    """
    arrivals, inputs, outputs, lines = array("d"), array("q"), array("q"), array("q")
    first, last = math.inf, -math.inf
    with closing(_numbered_requests(path)) as requests:
        for line, request in requests:
            first, last = min(first, request.arrival_seconds), request.arrival_seconds
            if last < span.start_seconds:
                continue
            if last >= span.end_seconds:
                if arrivals:
                    break
                continue  # to the end: the fault says how far the trace goes
            if len(arrivals) == most:
                raise TraceFault(
                    f"{path} has more than {most:,} requests{span}",
                    "take a shorter part of it, or keep every n-th request",
                )
            arrivals.append(last)
            inputs.append(request.input_tokens)
            outputs.append(request.output_tokens)
            lines.append(line)
    if not arrivals:
        raise SilentSpan(
            f"{path} has no request{span}: it goes from {first:,.0f} s to {last:,.0f} s",
            "choose a part inside it",
        )
    prompts, answers, places = (np.frombuffer(each, np.int64) for each in (inputs, outputs, lines))
    return Trace(np.frombuffer(arrivals, np.float64), prompts, answers, path, places)


def traced_requests(path: Path) -> Generator[TracedRequest, None, None]:
    """Yield the requests of a file as it is read; closing it closes the file.

    Raises TraceFault, also for a file without any.
    """
    with closing(_numbered_requests(path)) as requests:
        for _, request in requests:
            yield request


def _numbered_requests(path: Path) -> Generator[tuple[int, TracedRequest], None, None]:
    """Yield each request with its line."""
    with closing(text_lines(path)) as lines:
        reader = csv.reader(lines)
        try:
            found = False
            for request in _requests(path, reader):
                found = True
                yield reader.line_num, request
        except csv.Error as error:
            raise TraceFault(f"{path}, line {reader.line_num}: {error}", "give a CSV file") from error
    if not found:
        raise TraceFault(f"{path} has no requests", f"write one line per request below {_HEADER}")


def _requests(path: Path, reader: Reader) -> Iterator[TracedRequest]:
    at, prompt, answer, width = _columns(path, next(reader, []))
    previous, previous_line = -math.inf, 1
    for row in reader:
        line = reader.line_num
        if not row:
            continue
        if len(row) < width:
            raise TraceFault(
                f"{path}, line {line}: {len(row)} fields instead of {width}", "write a value for every column"
            )
        arrival = _number(row[at])
        if not 0 <= arrival <= _LATEST_SECONDS:
            raise _bad(path, line, COLUMNS[0], row[at], _SECONDS)
        if arrival < previous:
            raise TraceFault(
                f"{path}, line {line}: arrival_s {arrival:g} is before line {previous_line}'s {previous:g}",
                "sort the lines by arrival_s",
            )
        previous, previous_line = arrival, line
        inputs, outputs = _number(row[prompt]), _number(row[answer])
        for name, value, text in ((COLUMNS[1], inputs, row[prompt]), (COLUMNS[2], outputs, row[answer])):
            if not (1 <= value <= _MOST_TOKENS and value.is_integer()):
                raise _bad(path, line, name, text, _TOKENS)
        yield TracedRequest(arrival, int(inputs), int(outputs))


def _columns(path: Path, names: list[str]) -> tuple[int, int, int, int]:
    """Return where the three columns stand, and how many fields a row has."""
    header = [name.strip() for name in names]
    if not header:
        raise TraceFault(f"{path} is empty", f"write the header {_HEADER} and one line per request")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise TraceFault(
            f"{path}, line 1: no column {' and '.join(missing)} (found {','.join(header)})",
            f"write the header {_HEADER}",
        )
    at, prompt, answer = (header.index(name) for name in COLUMNS)
    return at, prompt, answer, len(header)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bad(path: Path, line: int, column: str, text: str, what: str) -> TraceFault:
    shown = repr(text.strip()) if text.strip() else "empty"
    return TraceFault(f"{path}, line {line}: {column} is {shown}", f"write {what}, or drop the line")
