"""The chart, rendered by the real helm."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "penstock"
URL = "prometheus.url=http://prometheus.monitoring:9090"

Objects = list[dict[str, Any]]
Render = Callable[..., Objects]


def load_render_script() -> Any:
    """Import charts/render, which has no suffix because it is a command."""
    path = ROOT / "charts" / "render"
    loader = importlib.machinery.SourceFileLoader("charts_render", str(path))
    spec = importlib.util.spec_from_loader("charts_render", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def render_script(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.dont_write_bytecode", True)
        return load_render_script()


@pytest.fixture(scope="session")
def helm(render_script: Any) -> str:
    found = render_script.find_helm()
    if not found:
        pytest.skip("no helm: run testbed/prepare chart")
    return str(found)


@pytest.fixture(scope="session")
def helm_run(helm: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run helm; never raises."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [helm, *arguments, "--kube-version", "1.34.0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="session")
def render(helm_run: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """Return the objects of a release `penstock` in `penstock-system` with the given --set values."""

    def objects(*values: str) -> Objects:
        sets = [argument for value in (URL, *values) for argument in ("--set", value)]
        done = helm_run("template", "penstock", str(CHART), "--namespace", "penstock-system", *sets)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return objects


@pytest.fixture(scope="session")
def refuse(helm_run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Return what helm says about values that it must refuse."""

    def message(*values: str) -> str:
        sets = [argument for value in values for argument in ("--set", value)]
        done = helm_run("template", "penstock", str(CHART), *sets)
        assert done.returncode != 0, "helm accepted the values"
        return done.stderr

    return message


def of_kind(objects: Objects, kind: str) -> Objects:
    return [each for each in objects if each["kind"] == kind]
