"""What the operator logs of a failure, in both formats."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import structlog
from penstock.telemetry.logging import configure_logging

configure_logging({log_format!r}, "INFO")

def ask(token):
    raise ValueError("the server is away")

try:
    ask("s3cret-" + "t0ken")
except ValueError:
    structlog.get_logger("penstock").exception("a tick failed", service="prod/chat")
"""

# Three ways to the same output: ours, the standard library's (kopf, asyncio), and below the level.
THREE_RECORDS = """
import logging

log = structlog.get_logger("penstock")
log.warning("prometheus cannot be reached", service="prod/chat", seconds=1.5)
logging.getLogger("kopf.activities").error("a watch\\nended: %s", "gone")
log.debug("nobody reads this", service="prod/chat")
"""


def stderr_of(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def json_lines(script: str) -> list[dict[str, Any]]:
    """Return the records, one a line, without their times."""
    records = [json.loads(line) for line in stderr_of(script).splitlines()]
    for record in records:
        assert record.pop("timestamp").endswith("Z")
    return records


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_failure_is_logged_with_its_place_and_without_the_values_of_variables(log_format: str) -> None:
    said = stderr_of(SCRIPT.format(log_format=log_format))
    assert "a tick failed" in said
    assert "prod/chat" in said
    assert "in ask" in said
    assert "ValueError: the server is away" in said
    assert "s3cret-t0ken" not in said


def test_as_json_a_failure_with_its_traceback_is_one_line() -> None:
    (record,) = json_lines(SCRIPT.format(log_format="json"))
    assert record.pop("exception").endswith("\nValueError: the server is away")
    assert record == {
        "level": "error",
        "event": "a tick failed",
        "service": "prod/chat",
        "logger": "penstock",
    }


def test_as_json_every_line_is_a_record_whoever_wrote_it() -> None:
    configured = SCRIPT.format(log_format="json").partition("def ask")[0]
    assert json_lines(configured + THREE_RECORDS) == [
        {
            "level": "warning",
            "event": "prometheus cannot be reached",
            "service": "prod/chat",
            "seconds": 1.5,
            "logger": "penstock",
        },
        {"level": "error", "event": "a watch\nended: gone", "logger": "kopf.activities"},
    ]
