"""What ``penstock simulate`` refuses before it simulates anything, with place and fix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.simulate_run import answer, trace


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        (
            ("--policy", "penstok"),
            {},
            "no policy is named 'penstok'\nFix: write some of penstock, hpa-q",
        ),
        (("--policy", ","), {}, "no policy is named\nFix: write some of penstock, "),
        (("--policy", "hpa-queue:queue"), {}, "--policy hpa-queue:queue: 'queue' is no setting\n"),
        (
            ("--policy", "hpa-queue:depth=2"),
            {},
            "--policy hpa-queue:depth=2: policy 'hpa-queue' has no",
        ),
        (
            ("--profile", "llama-9b"),
            {},
            "--profile: no engine profile is named 'llama-9b'\nFix: write ",
        ),
        (
            ("--from", "20m"),
            {},
            "trace.csv has no request from 1,200 s on: it goes from 0 s to 600 s\n",
        ),
        (("--initial", "9"), {}, "--initial 9: spec.replicas is 1 to 4\n"),
        (("--startup", "60s", "--startup-p90", "30s"), {}, "p90_seconds"),
        (
            (),
            {"replicas": {"min": 1, "max": 65}},
            "spec.replicas.max is 65: at most 64 replicas are",
        ),
        ((), {"slo": {"ttft": {"p95": "500ms"}}}, "spec.slo has no tpot: each request is judged by"),
        (
            (),
            {"engine": {"type": "VLLM", "profile": {"type": "Learned"}}},
            "spec.engine.profile: type Le",
        ),
        (
            (),
            {
                "engine": {"type": "VLLM", "serviceTime": {"mean": "5ms"}},
                "slo": {"latency": {"p99": "50ms"}},
            },
            "spec.engine.serviceTime: request/response services have no tokens to simulate\n",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_a_fix(
    run: Any, options: tuple[str, ...], spec: dict[str, Any], message: str
) -> None:
    result = run(*options, **spec)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "\nFix: " in result.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1.0, 10, 10), (0.5, 10, 10)], "line 3: arrival_s 0.5 is before line 2's 1"),
        ([(1.0, -10, 10)], "line 2: input_tokens is '-10'"),
        ([], "has no requests"),
    ],
)
def test_a_trace_that_cannot_be_used_names_the_line(
    run: Any, tmp_path: Path, rows: list[tuple[float, int, int]], message: str
) -> None:
    trace(tmp_path / "trace.csv", rows)
    result = run()
    assert result.exit_code == 2
    assert message in result.stderr


ROOM = "a request of 500,010 tokens, the KV memory of llama-3.1-8b-h100 holds 432,992"
LEAVE_OUT = "leave such requests out, or choose a profile with more memory"
LONG, SHORT = (500_000, 10), (10, 10)


@pytest.mark.parametrize(
    ("rows", "options", "line"),
    [
        ([(0.0, *LONG), (9.0, *SHORT)], (), "line 2"),
        ([(0.0, *SHORT), (9.0, *SHORT), (10.0, *LONG)], ("--from", "9s"), "line 4"),
        ([(float(at), *LONG) for at in range(9)], ("--for", "5s"), "line 2 (and 4 more)"),
    ],
)
def test_a_request_that_fits_no_engine_is_refused_with_its_line(
    run: Any, tmp_path: Path, rows: list[tuple[float, int, int]], options: tuple[str, ...], line: str
) -> None:
    path = trace(tmp_path / "trace.csv", rows)
    result = run("--policy", "static-mean", *options)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {path}, {line}: {ROOM}\nFix: {LEAVE_OUT}\n"


def test_a_length_beyond_what_is_simulated_is_refused_with_its_line(run: Any, tmp_path: Path) -> None:
    path = trace(tmp_path / "trace.csv", [(0.0, *SHORT), (9.0, 2_000_000, 10)])
    inline = {"type": "Inline", "inline": {"t0Milliseconds": "5.298", "kvCapacityTokens": 3_000_000}}
    result = run("--policy", "static-mean", engine={"type": "VLLM", "profile": inline})
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {path}, line 3: 2,000,000 tokens, a prompt or an answer of at most 1,048,576 is simulated\n"
        "Fix: leave such requests out\n"
    )


CORRECT = "correct arrival_s, or cut the trace with --from and --for"
FASTER = "write a larger --speed-up, or cut the trace with --from and --for"


@pytest.mark.parametrize(
    ("seconds", "options", "cause", "fix"),
    [
        (
            (0, 1, 99_999_999_999),
            (),
            "{path}, line 4: arrives 1,157,407 days after the request before; that is 1,157,407 days in all",
            CORRECT,
        ),
        (
            (0, 60, 120, 1_715_644_800),
            (),
            "{path}, line 5: arrives 19,857 days after the request before; that is 19,857 days in all",
            CORRECT,
        ),
        (
            (1_715_644_800, 1_715_644_900),
            ("--from", "5s"),
            "{path}, line 2: arrives 19,857 days after --from; that is 19,857 days in all",
            CORRECT,
        ),
        (
            range(0, 101 * 86_400 + 1, 43_200),
            (),
            "{path}, line 3: arrives 0.5 days after the request before; that is 101 days in all",
            CORRECT,
        ),
        ((0, 600), ("--speed-up", "1e-9"), "--speed-up 1e-09 makes 6,944,444 days of 600 s", FASTER),
        ((0, 600), ("--speed-up", "5e-324"), "--speed-up 4.94066e-324 makes inf days of 600 s", FASTER),
        ((0, 600), ("--for", "2424h"), "--for is 101 days", "write a shorter --for"),
    ],
)
def test_more_than_a_hundred_days_are_refused_before_they_are_simulated(
    run: Any, tmp_path: Path, seconds: Sequence[int], options: tuple[str, ...], cause: str, fix: str
) -> None:
    path = trace(tmp_path / "trace.csv", [(at, *SHORT) for at in seconds])
    result = run("--policy", "static-mean", *options)
    assert result.exit_code == 2
    said = cause.format(path=path)
    assert result.stderr == f"Error: {said}: at most 100 days are simulated\nFix: {fix}\n"


@pytest.mark.parametrize(
    ("seconds", "options", "cause"),
    [
        ((7, 7), (), "all 2 requests arrive at 7 s"),
        ((7,), (), "its only request arrives at 7 s"),
        ((3, 7), ("--from", "7s"), "its only request arrives at 7 s"),
    ],
)
def test_a_trace_of_no_length_is_refused(
    run: Any, tmp_path: Path, seconds: Sequence[int], options: tuple[str, ...], cause: str
) -> None:
    path = trace(tmp_path / "trace.csv", [(at, *SHORT) for at in seconds])
    result = run("--policy", "static-mean", *options)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {path}: {cause}, which is no time to simulate\n"
        "Fix: give a trace of some minutes, or its length with --for\n"
    )


@pytest.mark.parametrize(
    ("seconds", "options", "simulated"),
    [
        ((7,), ("--for", "60s"), 60.0),
        ((7, 7), ("--for", "60s", "--speed-up", "2"), 30.0),
        ((7, 7), ("--from", "3s"), 4.0),
        ((0, 90, 99_999_999_999), ("--for", "100s"), 100.0),
    ],
)
def test_what_the_options_cut_out_is_simulated(
    run: Any, tmp_path: Path, seconds: Sequence[int], options: tuple[str, ...], simulated: float
) -> None:
    trace(tmp_path / "trace.csv", [(at, *SHORT) for at in seconds])
    assert answer(run("--policy", "static-mean", "-o", "json", *options))["seconds"] == simulated


def test_a_start_up_longer_than_the_trace_costs_the_clairvoyant_nothing(run: Any) -> None:
    found = answer(run("--policy", "clairvoyant", "-o", "json", "--startup", "99999999999h"))
    assert found["policies"][0]["attainment_ratio"] > 0.9


NUMBER, SHARE = "a finite number from 1e-06 on", "from 1e-06 to 0.999"


@pytest.mark.parametrize(
    ("policy", "cause"),
    [
        ("hpa-queue:queue=0", f"queue is 0, not {NUMBER}"),
        ("hpa-queue:queue=nan", f"queue is nan, not {NUMBER}"),
        ("hpa-queue:queue=inf", f"queue is inf, not {NUMBER}"),
        ("hpa-queue:queue=-1", f"queue is -1, not {NUMBER}"),
        ("hpa-queue:queue=5e-324", f"queue is 4.94066e-324, not {NUMBER}"),
        ("keda:queue=0", f"queue is 0, not {NUMBER}"),
        ("keda-llm-d:running=0", f"running is 0, not {NUMBER}"),
        ("kpa:target=0", f"target is 0, not {NUMBER}"),
        ("apa:kv=0", f"kv is 0, not {NUMBER}"),
        ("slo-keda:up_at=0", f"up_at is 0, not {NUMBER}"),
        ("token-aware:kv=0", f"kv is 0, not {NUMBER}"),
        ("ray:ongoing=0", f"ongoing is 0, not {NUMBER}"),
        ("skyserve:ratio=0", f"ratio is 0, not {NUMBER}"),
        ("kthena:share=0", f"share is 0, not {NUMBER}"),
        ("production-stack:running=0", f"running is 0, not {NUMBER}"),
        ("wva-v2:up_at=0", f"up_at is 0, not {NUMBER}"),
        ("static-peak:ratio=nan", f"ratio is nan, not {NUMBER}"),
        ("static-peak:percentile=7", f"percentile is 7, not {SHARE}"),
        ("static-peak:percentile=0.9999", f"percentile is 0.9999, not {SHARE}"),
        ("penstock:percentile=2", f"percentile is 2, not {SHARE}"),
        ("penstock:percentile=nan", f"percentile is nan, not {SHARE}"),
        (
            "penstock:scale_down_window_seconds=-5",
            f"scale_down_window_seconds is -5, not {NUMBER}",
        ),
    ],
)
def test_a_setting_that_no_policy_can_work_with_is_refused(run: Any, policy: str, cause: str) -> None:
    result = run("--policy", f"static-mean,{policy}")
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: --policy {policy}: {cause}\nFix: correct the value, or leave the setting out\n"
    )
