"""Traces: what is read, what the busiest minute is, and what is said about a bad line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes.plan_run import Run
from penstock.cli.plan_trace import Trace, busiest_window, read_trace

HEADER = "arrival_s,input_tokens,output_tokens\n"
Write = Callable[..., Path]


@pytest.fixture
def trace(tmp_path: Path) -> Write:
    def write(content: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def minutes(*rates: int) -> str:
    """A trace with these requests per second, one rate a minute, evenly spaced."""
    lines = []
    for minute, rate in enumerate(rates):
        lines += [
            f"{minute * 60 + k / rate},{500 + 100 * minute},{50 + 10 * minute}" for k in range(60 * rate)
        ]
    return HEADER + "\n".join(lines) + "\n"


def test_the_busiest_minute_gives_the_rate_and_the_lengths(run: Run, chat: Path, trace: Write) -> None:
    plan = run("-f", chat, "--trace", trace(minutes(2, 9, 4)), "-o", "json").plan
    assert plan["rate_per_second"] == pytest.approx(9, rel=0.01)
    like_it = run(
        "-f", chat, "--rate", plan["rate_per_second"], "--input-tokens", 600, "--output-tokens", 60,
        "--length-scv", 0, "-o", "json",
    ).plan  # fmt: skip
    assert plan["tpot_seconds"]["mean"] == pytest.approx(like_it["tpot_seconds"]["mean"], rel=0.02)


def test_compressed_and_plain_traces_are_the_same(run: Run, chat: Path, trace: Write) -> None:
    text = minutes(3, 8)
    plain = run("-f", chat, "--trace", trace(text), "-o", "json").plan
    packed = gzip.compress(text.encode())
    assert run("-f", chat, "--trace", trace(packed, "trace.csv.gz"), "-o", "json").plan == plain
    assert run("-f", chat, "--trace", trace(packed, "unnamed"), "-o", "json").plan == plain


def test_columns_may_stand_in_any_order_and_among_others(trace: Write) -> None:
    read = read_trace(trace("id,output_tokens,arrival_s, input_tokens\na,7,0.5,100\n\nb,8,1.5,200\n"))
    assert read.arrivals.tolist() == [0.5, 1.5]
    assert read.inputs.tolist() == [100, 200]
    assert read.outputs.tolist() == [7, 8]


def test_the_window_is_the_best_of_all_windows() -> None:
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.uniform(0, 600, 700))
    window = busiest_window(Trace(arrivals, arrivals, arrivals), Path("t.csv"))
    best = max(int(((arrivals >= t) & (arrivals < t + 60)).sum()) for t in np.arange(0, 600, 0.05))
    assert window.trace.arrivals.size >= best
    assert window.trace.arrivals.size == round(60 * window.rate_per_second)


def test_a_short_trace_is_taken_whole_and_said_to_be(run: Run, chat: Path, trace: Write) -> None:
    path = trace(HEADER + "".join(f"{t / 4},1000,200\n" for t in range(81)))
    ran = run("-f", chat, "--trace", path, "-o", "json")
    assert ran.plan["rate_per_second"] == pytest.approx(4.0)  # 80 gaps in 20 s
    assert ran.stderr == f"Warning: {path} spans 20.2 s, less than 60 s: all of it was taken\n"


def test_bursts_of_a_trace_need_more_than_its_rate_does(run: Run, chat: Path, trace: Write) -> None:
    # 40 prompts at once every 10 s, then nothing: the same 4 per second as a steady stream.
    bursts = "".join(f"{10 * (k // 40)},1000,50\n" for k in range(40 * 19))
    steady = "".join(f"{k / 4},1000,50\n" for k in range(4 * 190))
    counts = [
        run("-f", chat, "--trace", trace(HEADER + lines), "-o", "json").plan["replicas"]
        for lines in (steady, bursts)
    ]
    assert counts[0] == 1
    assert counts[1] > 1


def test_bursts_that_are_not_replayed_are_said(run: Run, service: Callable[..., Path], trace: Write) -> None:
    bursts = "".join(f"{5 * k},1,1\n" * 20 for k in range(13))
    ran = run("-f", service("classifier"), "--trace", trace(HEADER + bursts), "-o", "json")
    assert ran.exit_code == 0
    assert ran.stderr.startswith("Warning: the counts per second of that minute vary ")
    assert ran.stderr.endswith(" times as much as Poisson's: bursts wait longer than the plan says\n")


def test_a_request_service_takes_only_the_arrivals(
    run: Run, service: Callable[..., Path], trace: Write
) -> None:
    plan = run("-f", service("classifier"), "--trace", trace(minutes(2, 9)), "-o", "json").plan
    assert plan["rate_per_second"] == pytest.approx(9, rel=0.01)
    assert plan["ttft_seconds"] is None


TOKENS = "write a number of tokens, at least 1, or drop the line"
SECONDS = "write seconds from the start of the trace, at least 0, or drop the line"


@pytest.mark.parametrize(
    ("content", "cause", "fix"),
    [
        ("", " is empty", "write the header arrival_s,input_tokens,output_tokens and one line per request"),
        (HEADER, " has no requests", "write one line per request below arrival_s,input_tokens,output_tokens"),
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
        (HEADER + "0,-10,5\n", ", line 2: input_tokens is '-10'", TOKENS),
        (HEADER + "0,10,0\n", ", line 2: output_tokens is '0'", TOKENS),
        (HEADER + "0,,5\n", ", line 2: input_tokens is empty", TOKENS),
        (HEADER + "0,many,5\n", ", line 2: input_tokens is 'many'", TOKENS),
        (HEADER + "0,10\n", ", line 2: 2 fields instead of 3", "write a value for every column"),
        (
            HEADER + "3,10,5\n3,10,5\n",
            ": all 2 requests arrive at 3 s, which is no rate",
            "give a trace of some minutes, or --rate with --input-tokens and --output-tokens",
        ),
        (b"\xff\xfe\x00", " is not text: byte 0 is not UTF-8", "give a CSV file"),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_fix(
    run: Run, chat: Path, trace: Write, content: str | bytes, cause: str, fix: str
) -> None:
    path = trace(content)
    ran = run("-f", chat, "--trace", path)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"Error: {path}{cause}\nFix: {fix}\n"


def test_a_name_that_promises_gzip_is_held_to_it(run: Run, chat: Path, trace: Write) -> None:
    path = trace(minutes(2), "trace.csv.gz")
    ran = run("-f", chat, "--trace", path)
    assert ran.exit_code == 2
    assert ran.stderr == (
        f"Error: {path} is named .gz but is not gzip\nFix: compress it with gzip, or rename it to .csv\n"
    )


@pytest.mark.parametrize("keep", [12, 40])
def test_a_cut_or_broken_gzip_is_refused(run: Run, chat: Path, trace: Write, keep: int) -> None:
    path = trace(gzip.compress(minutes(2).encode())[:keep], "trace.csv.gz")
    ran = run("-f", chat, "--trace", path)
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"Error: {path}: not a whole gzip file: ")
    assert ran.stderr.endswith("Fix: compress it again, or give the plain .csv\n")
