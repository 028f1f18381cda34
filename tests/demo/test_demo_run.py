"""The demo itself, as a user runs it: `penstock demo --quick`, and Ctrl-C in the middle of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.sandbox.prometheus import PrometheusUnavailableError, obtain_prometheus

pytestmark = [pytest.mark.slow, pytest.mark.prometheus, pytest.mark.xdist_group("demo")]
COMMAND = [sys.executable, "-m", "penstock", "demo", "--quick", "--api=fake"]
MARK = "PENSTOCK_DEMO_TEST"


def descendants(mark: str) -> list[str]:
    """Command lines of the live processes that carry our mark in their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return [line for line in found if line]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    try:
        obtain_prometheus()
    except PrometheusUnavailableError as error:
        pytest.skip(str(error))
    mark = tmp_path.name
    environment = {**os.environ, MARK: mark, "TMPDIR": str(tmp_path), "COLUMNS": "80"}
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process, mark
        finally:
            process.kill()


def none_left(mark: str) -> bool:
    deadline = time.monotonic() + 10
    while descendants(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not descendants(mark)


@pytest.mark.seconds(90)
def test_the_quick_demo_scales_tells_why_and_leaves_nothing(
    demo: tuple[subprocess.Popen[str], str], tmp_path: Path
):
    process, mark = demo
    text, _ = process.communicate(timeout=140)
    words = " ".join(text.split())
    # 4: all of it happened, but this machine was too busy to judge latencies by
    assert process.returncode in (0, 4), text
    assert "apiVersion: serving.penstock.dev/v1alpha1" in text
    # Penstock's own sentence, with what one replica fewer would give
    assert re.search(r"decides LatencyObjective: \d replicas \(1 of them spare\): at [\d.]+ req/s", words)
    assert re.search(r"gives? p95 TTFT [\d.]+ m?s > 1 s, \d give p95 TTFT [\d.]+ m?s <= 1 s", words)
    ups = [(int(a), int(b)) for a, b in re.findall(r"Deployment chat scaled from (\d) to (\d)", words)]
    assert ups
    assert ups[0][0] == 2 < ups[0][1]
    rows = re.findall(
        r"^(quiet|step|after|whole run) +[\d.]+/s .* (held|missed|not judged) +[\d.]+%$", text, re.MULTILINE
    )
    assert [name for name, _ in rows] == ["quiet", "step", "after", "whole run"]
    assert rows[-1][1] == ("held" if process.returncode == 0 else "not judged")
    assert re.search(r"Replica-hours: 0\.\d+ used", words)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert none_left(mark), descendants(mark)
    assert list(tmp_path.glob("penstock-*")) == []


@pytest.mark.parametrize("after", ["the operator: penstock run", "nobody who scales"])
def test_ctrl_c_ends_every_process(demo: tuple[subprocess.Popen[str], str], tmp_path: Path, after: str):
    process, mark = demo
    assert process.stdout is not None
    for line in process.stdout:
        if after in line:
            break
    assert len(descendants(mark)) >= 2
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 130, rest
    assert rest.splitlines()[-1] == "Interrupted; everything is stopped."
    assert "Traceback" not in rest
    assert none_left(mark), descendants(mark)
    assert list(tmp_path.glob("penstock-*")) == []
