"""What cannot be replayed is refused with its line; what is missing is missing and never zero."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from fakes.recorded_world import lines, replayed
from fakes.world import chat

POOL = {"target": 2, "current": 2, "ready": 2}
BEGIN: Any = {"times": {}, "memory": {}}
SEE = "Fix: see docs/observation.schema.json\n"


def line(at: float = 0.0, **changes: Any) -> dict[str, Any]:
    return {"at": at, "load": {"arrival_rate": 17.2}, "pool": POOL} | changes


def lengths(bounds: Sequence[object], counts: Sequence[object], mean: object = None) -> dict[str, Any]:
    return {
        "arrival_rate": 17.2,
        "input_lengths": {"upper_bounds": bounds, "counts": counts, "mean": mean},
    }


def stream(*observations: object) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else orjson.dumps(each) for each in observations)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ((line(), b"{no json", line(15.0)), "line 2: no JSON: "),
        ((line(), [1]), "line 2: [1] instead of an object"),
        ((line(arrivals=3),), "line 1: arrivals: unknown field; known are at, begin, "),
        (
            (line(load={"arrival_rate": 1, "wating": 3}),),
            "line 1: load.wating: unknown field; did you mean w",
        ),
        ((line(load={}),), "line 1: load.arrival_rate: missing: write requests per second, or null"),
        (({"at": 0.0, "pool": POOL},), "line 1: load missing"),
        ((line(15.0), line(0.0)), "line 2: at: 0.000 is not after 15.000, the observation before"),
        ((line(15.0), line(15.0)), "line 2: at: 15.000 is not after 15.000, the observation before"),
        (
            (line(15.0, begin=BEGIN), line(15.0)),
            "line 2: at: 15.000 is not after 15.000, the observation bef",
        ),
        ((line(load={"arrival_rate": "17"}),), "line 1: load.arrival_rate: '17' is not a number"),
        ((line(load={"arrival_rate": -1}),), "line 1: load.arrival_rate: -1 is below 0"),
        ((line(load={"arrival_rate": True}),), "line 1: load.arrival_rate: True is not a number"),
        (
            (line(pool={"target": 2.5, "current": 2, "ready": 2}),),
            "line 1: pool.target: 2.5 is not a whole number",
        ),
        ((line(pool={"target": 2}),), "line 1: pool: current, ready missing"),
        (
            (line(load={"arrival_rate": {"absence": "Gone"}}),),
            "line 1: load.arrival_rate.absence: 'Gone' is no",
        ),
        (
            (line(load={"arrival_rate": 1, "ttft": {"95": 0.1}}),),
            "line 1: load.ttft.95: a percentile is",
        ),
        (
            (line(load=lengths((1, 8, "+Inf"), (3, 2))),),
            "line 1: load.input_lengths: 2 counts for 3 upper bounds",
        ),
        (
            (line(load=lengths((8, 8), (3, 2))),),
            "line 1: load.input_lengths.upper_bounds: 8 does not ascend",
        ),
        (
            (line(load=lengths(("NaN",), (3,))),),
            "line 1: load.input_lengths.upper_bounds: nan does not asc",
        ),
        (
            (line(load=lengths((1, 8), (3, -2))),),
            "line 1: load.input_lengths.counts[1]: -2 is no count",
        ),
        (
            (line(load=lengths((1,), ("NaN",))),),
            "line 1: load.input_lengths.counts[0]: nan is no count",
        ),
        ((line(load=lengths((1,), (3,), -4)),), "line 1: load.input_lengths.mean: -4 is no mean"),
        ((line(load=lengths((1,), (3,), "+Inf")),), "line 1: load.input_lengths.mean: inf is no mean"),
        (
            (line(load={"arrival_rate": 1, "output_lengths": {"upper_bounds": [1], "counts": []}}),),
            "line 1: load.output_lengths: 0 counts for 1 upper bounds",
        ),
        ((line(service="prod/other"),), "no observation of prod/chat: only of prod/other"),
        ((), "no observation of prod/chat: no line at all"),
    ],
)
def test_a_stream_that_cannot_be_replayed_names_the_line(
    observations: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    result = replayed(chat(), stream(*observations), tmp_path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}"), result.stderr
    if message.startswith("line") and "JSON" not in message:
        assert result.stderr.endswith(SEE)


@pytest.mark.parametrize("missing", [None, {"absence": "QueryFailed", "detail": "no Prometheus"}])
def test_a_missing_arrival_rate_holds_the_count(missing: object, tmp_path: Path) -> None:
    result = replayed(chat(), stream(line(load={"arrival_rate": missing})), tmp_path)
    (decided,) = lines(result.stdout_bytes)
    assert (decided["replicas"]["value"], decided["replicas"]["reason"]) == (2, "MetricsMissing")


def test_a_true_zero_is_no_missing_signal(tmp_path: Path) -> None:
    nothing = {"arrival_rate": 0, "queue_growth": 0, "waiting": 0, "running": 0}
    result = replayed(chat(), stream(line(load=nothing)), tmp_path)
    (decided,) = lines(result.stdout_bytes)
    assert decided["replicas"]["reason"] != "MetricsMissing"


def test_lines_of_other_services_and_empty_ones_are_passed_over(tmp_path: Path) -> None:
    result = replayed(chat(), stream(line(service="prod/other"), b"", line(service="prod/chat")), tmp_path)
    assert (result.exit_code, len(lines(result.stdout_bytes))) == (0, 1)


def test_a_changed_service_is_warned_of(tmp_path: Path) -> None:
    result = replayed(chat(), stream(line(0.0, generation=3), line(15.0, generation=4)), tmp_path)
    assert result.exit_code == 0
    assert "Warning: line 2: the service was changed here (generation 3 to 4)" in result.stderr
    assert "cut the recording" not in result.stderr, "nothing says what was remembered then"


def test_a_line_that_begins_anew_may_be_of_an_earlier_time(tmp_path: Path) -> None:
    observations = stream(line(30.0), line(0.0, begin=BEGIN), line(15.0))
    result = replayed(chat(), observations, tmp_path)
    assert result.exit_code == 0, result.stderr
    assert [each["at"] for each in lines(result.stdout_bytes)] == [30.0, 0.0, 15.0]


@pytest.mark.parametrize("half", [b'{"at": 15.0, "load": {"arriv', b"{"])
def test_a_last_line_that_is_cut_off_is_said_and_left_out(half: bytes, tmp_path: Path) -> None:
    result = replayed(chat(), stream(line(), half), tmp_path)
    assert (result.exit_code, len(lines(result.stdout_bytes))) == (0, 1)
    assert result.stderr == "Warning: line 2: cut off in the middle, it is left out\n"


def test_an_unknown_profile_is_refused_before_the_first_line(tmp_path: Path) -> None:
    spec = chat() | {"engine": {"type": "VLLM", "profile": {"type": "Named", "name": "llama-3.1-8b-h200x"}}}
    result = replayed(spec, stream(line()), tmp_path)
    assert result.exit_code == 2
    assert "llama-3.1-8b-h200x" in result.stderr


def started(directory: Path) -> subprocess.Popen[bytes]:
    """A replay as a process of its own, whose input is still open."""
    replayed(chat(), b"", directory)  # writes the service
    command = "from penstock.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", command, "replay", "-f", str(directory / "service.yaml")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = started(tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    lost = {"arrival_rate": None}
    _, said = process.communicate(stream(*(line(15.0 * each, load=lost) for each in range(200))), timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_an_interrupt_ends_it_with_130_after_the_decisions_made(tmp_path: Path) -> None:
    process = started(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(stream(line(load={"arrival_rate": None})) + b"\n")
    process.stdin.flush()
    assert orjson.loads(process.stdout.readline())["replicas"]["reason"] == "MetricsMissing"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"interrupted\n")
