"""``penstock run --record``: what reaches the operator, and what it says of a wrong directory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.run import run
from penstock.controller.app import Operator
from penstock.controller.settings import OperatorSettings, PrometheusSettings
from penstock.policy.beliefs import LoopTimes

PROMETHEUS = ("--prometheus-url", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "directory", "limit_bytes"),
    [
        ((), "", 1 << 30),
        (("--record", "/var/lib/penstock"), "/var/lib/penstock", 1 << 30),
        (("--record", "/var/lib/penstock", "--record-limit", "256"), "/var/lib/penstock", 256 << 20),
    ],
)
def test_the_options_reach_the_operator(
    options: tuple[str, ...], directory: str, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[OperatorSettings] = []
    monkeypatch.setattr("penstock.controller.app.run_operator", lambda settings: seen.append(settings) or 0)
    result = CliRunner().invoke(run, [*PROMETHEUS, *options])
    assert result.exit_code == 0, result.output
    assert (seen[0].record_directory, seen[0].record_limit_bytes) == (directory, limit_bytes)


def test_a_limit_below_what_a_recording_needs_is_refused() -> None:
    result = CliRunner().invoke(run, [*PROMETHEUS, "--record", "x", "--record-limit", "8"])
    assert result.exit_code == 2
    assert "8 is not in the range x>=16" in result.stderr


def test_a_directory_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(run, [*PROMETHEUS, "--record", str(tmp_path / "file" / "records")])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: [Errno 20] Not a directory: ")


async def test_an_operator_records_only_where_it_is_told_to(tmp_path: Path) -> None:
    for directory in ("", str(tmp_path / "records")):
        async with AsyncExitStack() as stack:
            prometheus = PrometheusSettings("http://127.0.0.1:9")
            operator = Operator(OperatorSettings(prometheus, record_directory=directory), stack)
            recorder = operator._recorder(LoopTimes())
            assert (recorder is not None) == bool(directory)
    assert (tmp_path / "records").is_dir()
