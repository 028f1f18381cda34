"""`penstock simulate` run as a user runs it, on the service and the trace of `fakes.simulate_run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fakes.simulate_run import service, trace
from penstock.cli.simulate import simulate


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run the command with these options, and parts of the file's spec replaced."""

    def invoke(*options: str, **spec: Any) -> Result:
        file, requests = service(tmp_path / "service.yaml", **spec), tmp_path / "trace.csv"
        if not requests.exists():
            trace(requests)
        arguments = ["-f", str(file), "--trace", str(requests), *options]
        return CliRunner().invoke(simulate, arguments)

    return invoke
