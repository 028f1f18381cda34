"""``penstock load`` and ``penstock engine`` as commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from penstock.cli.load import load

pytestmark = pytest.mark.timed

PENSTOCK = [sys.executable, "-m", "penstock"]
ENGINE = [*PENSTOCK, "engine", "--profile", "llama-3.1-8b-h100", "--port", "0"]

# What a busy machine measures is of no interest here, only that it is reported.
BELIEVE = ["--max-engine-lag", "5", "--max-send-lag", "5s"]


@pytest.fixture
def engine_url(tmp_path: Path) -> Iterator[str]:
    log = tmp_path / "engine.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*ENGINE, f"--parent-pid={os.getpid()}"], stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"listening on (http://\S+),", log.read_text())):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield found[1]
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_load_is_reported_as_json_and_as_a_picture(engine_url: str, tmp_path: Path):
    picture = tmp_path / "load.png"
    command = [*PENSTOCK, "load", "--url", engine_url, "--rate", "5:1,20:1", "--output-tokens", "8"]
    done = subprocess.run(
        [*command, "--slo-ttft", "10s", *BELIEVE, "-o", "json", "--plot", str(picture)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)
    assert report["period_seconds"] == 2.0
    assert report["requests"]["due"] == report["requests"]["completed"] >= 10
    assert report["slo"]["attained_ratio"] == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_trace_is_played_and_reported_as_a_table(engine_url: str, tmp_path: Path):
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n7,20,3\n7.5,30,4\n8,10,5\n")
    objectives = ["--slo-ttft", "10s", "--slo-tpot", "9s"]
    done = CliRunner().invoke(load, ["--url", engine_url, "--trace", str(trace), *objectives, *BELIEVE])
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("3 requests in 1 s: 3 completed, 0 failed (3/s offered, ")
    assert "TTFT <= 10000 ms: 100.00% of all requests" in lines
    assert "TPOT <= 9000 ms: 100.00% of all requests" in lines


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_prints_what_was_measured(engine_url: str, number: signal.Signals, status: int):
    command = [*PENSTOCK, "load", "--url", engine_url, "--rate", "20", "--output-tokens", "3"]
    process = subprocess.Popen(
        [*command, *BELIEVE],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(4)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status
    assert output.startswith("Interrupted: what was measured so far.\n")
    assert "0 failed" in output


def test_a_bottleneck_is_refused_with_its_figure_and_status_4(engine_url: str):
    command = [*PENSTOCK, "load", "--url", engine_url, "--rate", "20", "--duration", "1s"]
    done = subprocess.run(
        [*command, "--output-tokens", "5", "--max-engine-lag", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("Not reported: steps of the stand-in engines ended late by")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "5"], "say where to send the load: --url http://127.0.0.1:8000, or --url-file FILE"),
        (["--url", "http://127.0.0.1:1"], "give either --rate or --trace"),
        (["--url", "127.0.0.1:1", "--rate", "5"], "'127.0.0.1:1': write it as http://127.0.0.1:8000"),
        (["--url", "http://a", "--rate", "x"], "'x' is not a rate: write 5, or 2:60,6:120 (rate:seconds)"),
        (
            ["--url", "http://a", "--rate", "1", "--duration", "1y"],
            "'1y' is not a duration: write 500ms, 30s, 1m30s or 2h",
        ),
        (
            ["--url", "http://a", "--rate", "1", "--duration", "5s", "--warmup", "5s"],
            "--warmup must be shorter than the load, which takes 5 s",
        ),
    ],
)
def test_a_wrong_command_line_says_what_to_write(arguments: list[str], message: str):
    done = CliRunner().invoke(load, arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_an_empty_trace_is_refused(tmp_path: Path):
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n")
    done = CliRunner().invoke(load, ["--url", "http://127.0.0.1:1", "--trace", str(trace)])
    assert (done.exit_code, done.output) == (
        1,
        f"Error: {trace} has no requests\n"
        "Fix: write one line per request below arrival_s,input_tokens,output_tokens\n",
    )


def test_a_warm_up_longer_than_the_trace_is_refused(tmp_path: Path):
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n2.5,1,1\n")
    done = CliRunner().invoke(load, ["--url", "http://127.0.0.1:1", "--trace", str(trace), "--warmup", "3s"])
    assert done.exit_code == 2
    assert "--warmup must be shorter than the load, which takes 2.5 s" in done.output


BRIEF = ["--rate", "20", "--duration", "1s", "--output-tokens", "3", *BELIEVE]


NOWHERE = ["--url", "http://127.0.0.1:1", *BRIEF, "-o", "json"]


@pytest.mark.parametrize(
    ("picture", "matplotlib", "message"),
    [
        ("missing/load.png", True, "cannot write {path}: {parent} is no directory"),
        ("load.png", False, "--plot needs matplotlib: pip install 'penstock[plot]'"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: str, matplotlib: bool, message: str
):
    if not matplotlib:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("penstock.cli.load.run_load", None)  # not to be called
    path = tmp_path / picture
    done = CliRunner().invoke(load, [*NOWHERE, "--plot", str(path)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"Error: {message.format(path=path, parent=path.parent)}\n"


def test_a_picture_that_fails_after_the_load_costs_no_report(tmp_path: Path):
    path = tmp_path / "load.nonsense"
    done = CliRunner().invoke(load, [*NOWHERE, "--plot", str(path)])
    assert done.exit_code == 1
    assert orjson.loads(done.stdout)["errors"]["connect"] > 0
    assert done.stderr.startswith(f"Error: cannot write {path}: Format 'nonsense' is not supported")


def test_a_url_file_that_never_comes_is_named_and_fails(tmp_path: Path):
    missing = tmp_path / "urls"
    done = CliRunner().invoke(load, ["--url-file", str(missing), *BRIEF])
    assert done.exit_code == 1
    assert "x no target" in done.stdout
    assert done.stderr == (
        f"Warning: {missing} does not exist yet: until it does, nothing is sent to its URLs\n"
        f"Error: {missing} does not exist: no request had a target\n"
        "Fix: write one URL a line into it\n"
    )


def test_a_url_file_that_comes_later_is_used(engine_url: str, tmp_path: Path):
    late = tmp_path / "urls"
    writer = threading.Timer(0.5, lambda: late.write_text(f"{engine_url}\n"))
    writer.start()
    try:
        done = CliRunner().invoke(load, ["--url-file", str(late), *BRIEF, "--duration", "3s", "-o", "json"])
    finally:
        writer.join()
    assert done.exit_code == 0, done.stderr
    report = orjson.loads(done.stdout)
    assert report["requests"]["completed"] > 0
    assert report["errors"]["no target"] > 0


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, 2, "Invalid value for '--url-file': File '{path}' is a directory."),
        (b"\xff\xfe", 1, "{path} cannot be read: not UTF-8 text\nFix: write one URL a line into it"),
    ],
    ids=["a directory", "no text"],
)
def test_a_url_file_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, status: int, message: str
):
    path = tmp_path / "urls"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    done = CliRunner().invoke(load, ["--url-file", str(path), *BRIEF])
    assert done.exit_code == status
    assert done.stderr.endswith(f"Error: {message.format(path=path)}\n")
