"""Numbers of the command line that compare with nothing (nan) are refused by every command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from penstock.cli.main import main

LOAD = ["load", "--url", "http://127.0.0.1:1", "--rate", "1", "--duration", "1s"]
ENGINE = ["engine", "--profile", "llama-3.1-8b-h100"]
REPLAY = ["replay", "-f", __file__]
RUN = ["run", "--prometheus-url", "http://127.0.0.1:9"]


@pytest.mark.parametrize("value", ["nan", "-nan"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (LOAD, "--input-tokens"),
        (LOAD, "--output-tokens"),
        (LOAD, "--length-scv"),
        (LOAD, "--max-engine-lag"),
        (ENGINE, "--speed"),
        (ENGINE, "--fail-ratio"),
        (ENGINE, "--cut-ratio"),
        (ENGINE, "--slow-factor"),
        (REPLAY, "--tick-seconds"),
        (REPLAY, "--rate-window"),
        (RUN, "--tick-seconds"),
        (RUN, "--rate-window"),
        (RUN, "--scrape-interval"),
        (RUN, "--prometheus-timeout"),
    ],
)
def test_nan_is_no_number(command: list[str], option: str, value: str) -> None:
    done = CliRunner().invoke(main, [*command, f"{option}={value}"])
    assert done.exit_code == 2
    assert done.stderr.endswith(f"Error: Invalid value for '{option}': '{value}' is not a finite number\n")


def test_a_seed_below_zero_is_refused() -> None:
    done = CliRunner().invoke(main, [*LOAD, "--seed", "-1"])
    assert done.exit_code == 2
    assert done.stderr.endswith("Error: Invalid value for '--seed': -1 is not in the range x>=0.\n")
