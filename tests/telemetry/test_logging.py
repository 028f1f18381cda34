"""What the operator logs of a failure, in both formats."""

from __future__ import annotations

import subprocess
import sys

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


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_failure_is_logged_with_its_place_and_without_the_values_of_variables(log_format: str) -> None:
    script = SCRIPT.format(log_format=log_format)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "a tick failed" in done.stderr
    assert "prod/chat" in done.stderr
    assert "in ask" in done.stderr
    assert "ValueError: the server is away" in done.stderr
    assert "s3cret-t0ken" not in done.stderr
