"""Closed or full standard streams: an error with a fix, whatever the command, and never a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.plan_run import SAMPLES

PENSTOCK = f"{shlex.quote(sys.executable)} -m penstock"
LOAD = "--rate 4 --input-tokens 200 --output-tokens 100"
PLAN = f"plan -f {SAMPLES / 'chat.yaml'} {LOAD}"
REPLAY = f"replay -f {SAMPLES / 'chat.yaml'}"
OBSERVATION = b'{"at": 0, "load": {"arrival_rate": null}, "pool": {"target": 2, "current": 2, "ready": 2}}\n'


def ran(line: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run a line of the shell; exit status and standard error."""
    done = subprocess.run(
        ["bash", "-c", f"{PENSTOCK} {line}"], input=stdin, capture_output=True, timeout=120, check=False
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("command", [PLAN, f"{PLAN} -o json", REPLAY, "plan --help"])
@pytest.mark.parametrize(
    ("redirection", "why"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "it is closed"),
        ("1</dev/null", "Bad file descriptor"),
    ],
)
def test_standard_output_that_cannot_be_written_is_said(command: str, redirection: str, why: str) -> None:
    assert ran(f"{command} {redirection}", OBSERVATION) == (
        1,
        f"Error: standard output cannot be written: {why}\n"
        "Fix: send it to a file or a program that takes it\n",
    )


@pytest.mark.parametrize("command", [f"plan -f - {LOAD}", REPLAY])
def test_standard_input_that_is_closed_is_said(command: str) -> None:
    assert ran(f"{command} <&-") == (
        2,
        "Error: standard input is closed\nFix: give a file, or send its content to standard input\n",
    )


@pytest.mark.parametrize("command", [PLAN, f"{PLAN} -o json", "--help"])
def test_a_reader_that_has_gone_is_no_error(command: str) -> None:
    assert ran(f"{command} | true")[1] == ""


def test_what_goes_to_a_file_is_whole(tmp_path: Path) -> None:
    answer = tmp_path / "plan.json"
    assert ran(f"{PLAN} -o json >{shlex.quote(str(answer))}") == (0, "")
    assert answer.read_text().endswith("}\n")
