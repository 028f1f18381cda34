"""Traces: what is read, what is said about a bad line, and what a huge file costs."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.traces.fault import SilentSpan, TraceFault
from penstock.traces.reading import Span, read_trace, traced_requests

HEADER = "arrival_s,input_tokens,output_tokens\n"
Write = Callable[..., Path]


@pytest.fixture
def trace(tmp_path: Path) -> Write:
    def write(content: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_columns_may_stand_in_any_order_and_among_others(trace: Write) -> None:
    read = read_trace(trace("id,output_tokens,arrival_s, input_tokens\na,7,0.5,100\n\nb,8.0,1.5,200\n"))
    assert read.arrivals.tolist() == [0.5, 1.5]
    assert read.inputs.tolist() == [100, 200]
    assert read.outputs.tolist() == [7, 8]


def test_a_request_remembers_its_line_also_in_a_part(trace: Write) -> None:
    path = trace(HEADER + "\n0,10,5\n\n\n1,11,6\n2,12,7\n")
    part = read_trace(path).part(slice(1, 3))
    assert part.inputs.tolist() == [11, 12]
    assert [part.place(each) for each in (0, 1)] == [f"{path}, line 6", f"{path}, line 7"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("name", ["trace.csv.gz", "unnamed"])
def test_compressed_files_are_known_by_their_content(trace: Write, mark: bytes, name: str) -> None:
    packed = gzip.compress(mark + (HEADER + "1,2,3\n").encode())
    assert list(traced_requests(trace(packed, name))) == [(1.0, 2, 3)]


TOKENS = "write a number of tokens, at least 1, or drop the line"
SECONDS = "write seconds from the start of the trace, at least 0, or drop the line"
BELOW = "write one line per request below arrival_s,input_tokens,output_tokens"
LINES = HEADER + "0,10,5\n"


@pytest.mark.parametrize(
    ("content", "cause", "fix"),
    [
        ("", " is empty", "write the header arrival_s,input_tokens,output_tokens and one line per request"),
        (HEADER, " has no requests", BELOW),
        (
            "t,input_tokens\n1,2\n",
            ", line 1: no column arrival_s and output_tokens (found t,input_tokens)",
            "write the header arrival_s,input_tokens,output_tokens",
        ),
        (
            HEADER + "0,10,5\n2,10,5\n1,10,5\n",
            ", line 4: arrival_s 1 is before line 3's 2",
            "sort the lines by arrival_s",
        ),
        (HEADER + "-1,10,5\n", ", line 2: arrival_s is '-1'", SECONDS),
        (HEADER + "0,10,5\nnan,10,5\n", ", line 3: arrival_s is 'nan'", SECONDS),
        (HEADER + "1715644800000,10,5\n", ", line 2: arrival_s is '1715644800000'", SECONDS),
        (HEADER + "0,-10,5\n", ", line 2: input_tokens is '-10'", TOKENS),
        (HEADER + "0,10,0\n", ", line 2: output_tokens is '0'", TOKENS),
        (HEADER + "0,10.5,1\n", ", line 2: input_tokens is '10.5'", TOKENS),
        (HEADER + "0,10,1e300\n", ", line 2: output_tokens is '1e300'", TOKENS),
        (HEADER + "0,,5\n", ", line 2: input_tokens is empty", TOKENS),
        (HEADER + "0,many,5\n", ", line 2: input_tokens is 'many'", TOKENS),
        (HEADER + "0,10\n", ", line 2: 2 fields instead of 3", "write a value for every column"),
        (b"\xff\xfe\x00", ", line 1: not UTF-8 text", "give a CSV file"),
        (LINES.encode() * 1 + b"1,\xff,5\n", ", line 3: not UTF-8 text", "give a CSV file"),
        (LINES + "1" * 70_000, ", line 3: longer than 65,536 bytes", "give a CSV file"),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_fix(
    trace: Write, content: str | bytes, cause: str, fix: str
) -> None:
    path = trace(content)
    with pytest.raises(TraceFault) as fault:
        read_trace(path)
    assert (fault.value.cause, fault.value.fix) == (f"{path}{cause}", fix)
    assert str(fault.value) == f"{path}{cause}\nFix: {fix}"


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(TraceFault, match=r"nowhere\.csv cannot be read: No such file or directory"):
        read_trace(tmp_path / "nowhere.csv")


def test_a_name_that_promises_gzip_is_held_to_it(trace: Write) -> None:
    path = trace(LINES, "trace.csv.gz")
    with pytest.raises(TraceFault) as fault:
        read_trace(path)
    assert fault.value.cause == f"{path} is named .gz but is not gzip"
    assert fault.value.fix == "compress it with gzip, or rename it to .csv"


@pytest.mark.parametrize("keep", [12, 40])
def test_a_cut_or_broken_gzip_is_refused(trace: Write, keep: int) -> None:
    path = trace(gzip.compress((HEADER + "".join(f"{k},{k + 7},5\n" for k in range(500))).encode())[:keep])
    with pytest.raises(TraceFault) as fault:
        read_trace(path)
    assert fault.value.cause.startswith(f"{path}: not a whole gzip file: ")
    assert fault.value.fix == "compress it again, or give the plain .csv"


def test_a_trace_too_long_to_hold_is_refused(trace: Write) -> None:
    path = trace(HEADER + "0,10,5\n" * 4)
    assert read_trace(path, most=4).arrivals.size == 4
    with pytest.raises(TraceFault, match="has more than 3 requests"):
        read_trace(path, most=3)


SECONDLY = HEADER + "".join(f"{at},{at + 10},5\n" for at in range(8))


@pytest.mark.parametrize(
    ("span", "found"),
    [
        (Span(2, 5), [2.0, 3.0, 4.0]),
        (Span(1.5, 4), [2.0, 3.0]),
        (Span(6), [6.0, 7.0]),
        (Span(0, 3), [0.0, 1.0, 2.0]),
    ],
    ids=str,
)
def test_a_part_is_read_out_of_a_trace_too_long_to_hold(trace: Write, span: Span, found: list[float]) -> None:
    path = trace(SECONDLY)
    part = read_trace(path, most=3, span=span)
    assert part.arrivals.tolist() == found
    assert part.inputs.tolist() == [at + 10 for at in found]
    assert part.place(0) == f"{path}, line {found[0] + 2:.0f}"


@pytest.mark.parametrize(
    ("span", "where"), [(Span(), ""), (Span(1), " from 1 s on"), (Span(0, 4), " between 0 s and 4 s")]
)
def test_a_part_too_long_to_hold_is_refused(trace: Write, span: Span, where: str) -> None:
    path = trace(SECONDLY)
    with pytest.raises(TraceFault) as fault:
        read_trace(path, most=3, span=span)
    assert fault.value.cause == f"{path} has more than 3 requests{where}"
    assert fault.value.fix == "take a shorter part of it, or keep every n-th request"


@pytest.mark.parametrize(
    ("span", "where"), [(Span(9), "from 9 s on"), (Span(1.2, 1.8), "between 1 s and 2 s"), (Span(8, 9), None)]
)
def test_a_part_without_requests_is_refused_with_the_whole_length(
    trace: Write, span: Span, where: str | None
) -> None:
    path = trace(SECONDLY)
    with pytest.raises(SilentSpan) as fault:
        read_trace(path, span=span)
    said = where or "between 8 s and 9 s"
    assert fault.value.cause == f"{path} has no request {said}: it goes from 0 s to 7 s"


def test_what_comes_after_the_part_is_not_read(trace: Write) -> None:
    path = trace(SECONDLY + "8,none,5\n")
    assert read_trace(path, span=Span(2, 5)).arrivals.size == 3
    with pytest.raises(TraceFault, match=r"line 10: input_tokens is 'none'"):
        read_trace(path, span=Span(2))


def test_a_part_of_a_file_costs_the_part_and_not_the_file(trace: Write) -> None:
    rows = "".join(f"{at},1000,200\n" for at in range(100_000))
    path = trace(gzip.compress((HEADER + rows).encode(), 1), "trace.csv.gz")
    tracemalloc.start()
    try:
        count = read_trace(path, span=Span(99_000, 99_100)).arrivals.size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100
    assert peak < 2_000_000  # all of it would be 3.2 MB


@pytest.mark.parametrize("lines", ["0,10,5\n0,none,5\n", "0,10,5\n" * 4], ids=["bad", "too long"])
def test_a_refused_file_is_closed_before_its_error_is_caught(trace: Write, lines: str) -> None:
    path = trace(HEADER + lines)
    with pytest.raises(TraceFault) as error:
        read_trace(path, most=3)
    assert error.tb is not None, "which keeps the readers alive"
    still_open = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    assert str(path) not in still_open


def test_a_file_is_streamed_and_not_held(trace: Write) -> None:
    path = trace(gzip.compress((HEADER + "1.25,1000,200\n" * 100_000).encode(), 1), "trace.csv.gz")
    tracemalloc.start()
    try:
        count = sum(1 for _ in traced_requests(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000  # 1.4 MB of text, ten times that as objects
    assert peak < 2_000_000  # buffers; other tests' threads count too
