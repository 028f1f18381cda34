"""`penstock plan` run as a user runs it, on service files made of one sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fakes.plan_run import SAMPLES, Ran, Run
from penstock.cli.main import main


@pytest.fixture
def run() -> Run:
    """Run ``penstock plan`` with these arguments (and text on standard input)."""

    def invoke(*arguments: object, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(main, ["plan", *map(str, arguments)], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., Path]:
    """Write a sample with parts of its spec replaced, ``service(slo={...})``, and return the file."""

    def write(sample: str = "chat", **sections: object) -> Path:
        resource = yaml.safe_load((SAMPLES / f"{sample}.yaml").read_text())
        for name, section in sections.items():
            if section is None:
                del resource["spec"][name]
            else:
                resource["spec"][name] = section
        path = tmp_path / "service.yaml"
        path.write_text(yaml.safe_dump(resource))
        return path

    return write


@pytest.fixture
def chat(service: Callable[..., Path]) -> Path:
    """The sample of a token-generating service."""
    return service()
