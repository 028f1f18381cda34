"""Commands that get what everything else leaves of the processors."""

from __future__ import annotations

import signal
import subprocess
import sys
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
    command = [IDLY, "sh", "-c", "sleep 600 & echo started; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        running.send_signal(number)
        running.communicate(timeout=10)  # to the end: nothing that was started holds the pipe
    assert running.returncode != 0


def test_without_a_command_it_says_how_to_use_it() -> None:
    ended = subprocess.run([IDLY], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (2, "usage: testbed/idly COMMAND...\n")
