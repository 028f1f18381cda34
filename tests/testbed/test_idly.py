"""Commands that get what everything else leaves of the processors."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

IDLY = Path(__file__).resolve().parents[2] / "testbed" / "idly"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's idle class is Linux's")


@LINUX
def test_a_command_runs_in_the_idle_class_and_its_session_has_the_least_weight() -> None:
    told = subprocess.run(
        [IDLY, "sh", "-c", "chrt -p $$; cat /proc/self/autogroup 2>/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "SCHED_IDLE" in told
    assert "autogroup" not in told or told.endswith(" nice 19\n")


@pytest.mark.parametrize("status", [0, 1, 5])
def test_the_commands_status_is_passed_on(status: int) -> None:
    assert subprocess.run([IDLY, "sh", "-c", f"exit {status}"], check=False).returncode == status


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_what_it_started(number: signal.Signals) -> None:
    running = subprocess.Popen(
        [IDLY, "sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    with running.stdout:
        started = int(running.stdout.readline())
        running.send_signal(number)
        assert running.wait(timeout=10) != 0
    assert _within(10, lambda: _ended(started))


def _ended(process: int) -> bool:
    try:
        # A zombie: nobody may be there to take what it left.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_without_a_command_it_says_how_to_use_it() -> None:
    ended = subprocess.run([IDLY], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "usage: testbed/idly COMMAND...\n")
