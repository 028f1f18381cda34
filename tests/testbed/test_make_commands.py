"""What `make test` says at its end and what `make demo` refuses: the Makefile, a small suite and stubs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = {
    "pytest.ini": """
        [pytest]
        addopts = --import-mode=importlib -p fakes.requirements_plugin -p no:randomly
        asyncio_default_fixture_loop_scope = function
        markers = api: a\n    kind: k\n    prometheus: p\n    slow: s\n    timed: t
    """,
    "tests/kind/test_cluster.py": """
        import pytest
        @pytest.mark.kind
        def test_cluster(): pytest.skip("no Docker engine")
    """,
    "tests/engine/test_engine.py": """
        import pytest
        @pytest.mark.timed
        def test_engine(): pass
    """,
    "tests/chart/test_chart.py": """
        import pytest
        def test_chart(): pytest.skip("no helm: run testbed/prepare chart")
        def test_page(): pass
    """,
}
HEADING = "== not run on this machine"
SKIPPED = [
    "chart: 1 test skipped: no helm: run testbed/prepare chart",
    "kind: 1 test skipped: no Docker engine",
]
UNMET = "FAILED requirement: kind: 1 test skipped, but PENSTOCK_REQUIRE asks for all of them"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of the Makefile alone, whose environment is the one of this run."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name, text in SUITE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line.removeprefix(' ' * 8)}\n" for line in text.splitlines()))
    script(tmp_path / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    script(tmp_path / "testbed/idly", 'exec "$@"')
    script(tmp_path / "testbed/venv", "exit 0")
    return tmp_path


def script(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


def make(checkout: Path, *arguments: str, require: str = "") -> subprocess.CompletedProcess[str]:
    """Run make as from a shell: what a make around this run asks of its parts is not meant for this one."""
    own = ("MAKE", "MFLAGS", "PYTEST_", "PENSTOCK_", "CLUSTER", "SCENE")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=inherited | {"PYTHONPATH": str(ROOT / "tests"), "PENSTOCK_REQUIRE": require},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(("require", "status", "listed"), [("", 0, SKIPPED), ("kind", 2, [UNMET, *SKIPPED])])
def test_what_all_parts_skipped_stands_once_more_after_the_last_of_them(
    checkout: Path, require: str, status: int, listed: list[str]
) -> None:
    done = make(checkout, "test", "PYTEST_ARGS=--numprocesses 0", require=require)
    said = done.stdout.splitlines()
    assert done.returncode == status, done.stdout + done.stderr
    assert "== the core tests" in said
    assert said[said.index(HEADING) :] == [HEADING, *listed]


def test_a_required_test_that_was_skipped_fails_also_when_a_second_run_passes(checkout: Path) -> None:
    (checkout / "tests/chart/test_chart.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.mark.api\n"
        "def test_server(): pytest.skip('no etcd')\n"
        "def test_first_time_fails():\n"
        "    tried = pathlib.Path(__file__).with_suffix('.tried')\n"
        "    known, _ = tried.exists(), tried.touch()\n"
        "    assert known\n"
    )
    done = make(checkout, "test", "PYTEST_ARGS=--numprocesses 0", require="api")
    assert "1 failed" in done.stdout
    assert "1 passed" in done.stdout[done.stdout.index("runs again alone") :]
    assert "FAILED requirement: api:" in done.stdout[done.stdout.index(HEADING) :]
    assert done.returncode == 2, done.stdout + done.stderr


def test_nothing_is_listed_where_nothing_was_skipped(checkout: Path) -> None:
    for name in ("tests/kind/test_cluster.py", "tests/chart/test_chart.py"):
        path = checkout / name
        path.write_text(path.read_text().replace("pytest.skip(", "print("))
    done = make(checkout, "test", "PYTEST_ARGS=--numprocesses 0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert HEADING not in done.stdout


def test_a_scene_that_the_demo_on_kind_does_not_play_is_refused(checkout: Path) -> None:
    done = make(checkout, "demo", "CLUSTER=kind", "SCENE=canary")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr.splitlines()[0]
        == "demo: CLUSTER=kind plays the overload only: leave out SCENE=canary or CLUSTER=kind"
    )


def test_the_demo_on_kind_plays_the_overload(checkout: Path) -> None:
    for name in ("prepare", "build-image", "kind-demo"):
        script(checkout / "testbed" / name, f"echo {name} $*")
    done = make(checkout, "demo", "CLUSTER=kind")
    assert (done.returncode, done.stdout) == (0, "prepare kind\nbuild-image\nkind-demo\n")
