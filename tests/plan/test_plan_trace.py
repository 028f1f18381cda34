"""Traces: what is read, what the busiest minute is, and what is said about a bad line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes.plan_run import Run
from penstock.cli.plan_trace import busiest_window
from penstock.traces.reading import Trace

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


def test_the_window_is_the_best_of_all_windows() -> None:
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.uniform(0, 600, 700))
    window = busiest_window(Trace(arrivals, np.ones(700, np.int64), np.ones(700, np.int64)), Path("t.csv"))
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


@pytest.mark.parametrize(
    ("content", "cause", "fix"),
    [
        (
            HEADER + "0,10,5\n2,10,5\n1,10,5\n",
            ", line 4: arrival_s 1 is before line 3's 2",
            "sort the lines by arrival_s",
        ),
        (
            HEADER + "3,10,5\n3,10,5\n",
            ": all 2 requests arrive at 3 s, which is no rate",
            "give a trace of some minutes, or --rate with --input-tokens and --output-tokens",
        ),
    ],
)
def test_a_bad_trace_is_refused_with_line_and_fix(
    run: Run, chat: Path, trace: Write, content: str, cause: str, fix: str
) -> None:
    path = trace(content)
    ran = run("-f", chat, "--trace", path)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"Error: {path}{cause}\nFix: {fix}\n"


KV = "the KV memory of llama-3.1-8b-h100"


@pytest.mark.parametrize(
    ("content", "cause", "fix"),
    [
        (
            minutes(2, 9).replace("61.0,600,60\n", "61.0,600000,60\n"),
            f"{{path}}, line 131: a request of 600,060 tokens, {KV} holds 432,992",
            "leave such requests out, or choose a profile with more memory",
        ),
        (
            minutes(2, 9).replace(",600,", ",600000,"),
            f"a sequence holds 600,030 tokens of context on average, {KV} 432,992",
            "choose a profile with more memory, or drop the longest requests of that minute from the trace",
        ),
    ],
    ids=["one request", "all of the minute"],
)
def test_requests_that_fit_no_engine_are_refused_with_what_to_do_about_the_trace(
    run: Run, chat: Path, trace: Write, content: str, cause: str, fix: str
) -> None:
    path = trace(content)
    ran = run("-f", chat, "--trace", path)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == f"Error: {cause.format(path=path)}\nFix: {fix}\n"


def test_a_request_that_fits_no_engine_is_no_matter_far_from_the_busiest_minute(
    run: Run, chat: Path, trace: Write
) -> None:
    far = minutes(1, 1, 1, 1, 9).replace("0.0,500,50\n", "0.0,600000,50\n", 1)
    assert run("-f", chat, "--trace", trace(far), "-o", "json").plan["rate_per_second"] == pytest.approx(9)
