"""The demo's first seconds, with stand-ins for the programs it starts: proxies, logs, and Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster
from penstock.sandbox.demo.scene import quick_scene

COMMAND = [sys.executable, "-m", "penstock", "demo", "--quick", "--api=real"]


def script(path: Path, text: str, shell: str = "/bin/sh") -> None:
    """Write an executable script."""
    path.write_text(f"#!{shell}\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only directory on the demo's PATH."""
    directory = tmp_path / "programs"
    directory.mkdir()
    sleep = shutil.which("sleep")
    assert sleep is not None
    (directory / "sleep").symlink_to(sleep)
    return directory


@contextmanager
def demo(programs: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in a process group of its own, as a shell starts it."""
    home = programs.parent / "home"
    home.mkdir()
    variables = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "PATH": str(programs),
        "XDG_CACHE_HOME": str(programs.parent / "cache"),
        "TMPDIR": str(home),
        "COLUMNS": "300",
        **environment,
    }
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=variables,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[str], after: Path) -> str:
    """Press Ctrl-C once `after` exists; returns what it said."""
    deadline = time.monotonic() + 60
    while not after.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)  # 60 s was what a waiting thread took
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "Interrupted; everything is stopped."
    return said


def test_the_demos_programs_are_told_to_spare_loopback_the_proxy(programs: Path):
    script(programs / "prometheus", "exec sleep 60")
    for name in ("etcd", "kube-apiserver"):
        script(programs / name, 'echo "exempt: $no_proxy and $NO_PROXY"; exit 1')
    with demo(programs, http_proxy="http://127.0.0.1:9", no_proxy="corp") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "exempt: corp,127.0.0.1,localhost and corp,127.0.0.1,localhost" in said


async def test_the_log_of_prometheus_is_among_the_logs(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ready = (
        "import http.server, sys\n"
        "print('the stand-in speaks', flush=True)\n"
        "port = int(next(each for each in sys.argv if 'web.listen' in each).rpartition(':')[2])\n"
        "handler = http.server.BaseHTTPRequestHandler\n"
        "handler.do_GET = lambda self: (self.send_response(200), self.end_headers())\n"
        "http.server.HTTPServer(('127.0.0.1', port), handler).serve_forever()\n"
    )
    script(programs / "prometheus", ready, sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path / "home", quick_scene(), lambda kind, text: None)
        await cluster.open(stack, ApiChoice.FAKE)
        assert (cluster.logs / "prometheus.log").read_text().startswith("the stand-in speaks\n")


def test_ctrl_c_while_the_api_server_starts_is_heard_at_once(programs: Path, tmp_path: Path):
    script(programs / "prometheus", "exec sleep 60")
    for name in ("etcd", "kube-apiserver"):
        script(programs / name, f"echo > {tmp_path}/{name}-runs; exec sleep 600")
    with demo(programs) as process:
        interrupt(process, tmp_path / "kube-apiserver-runs")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    "on_ctrl_c", ["-", "'sleep 1; exit 100'"], ids=["the signal ends apt-get", "apt-get fails a second later"]
)
def test_ctrl_c_during_the_first_download_starts_no_other(programs: Path, tmp_path: Path, on_ctrl_c: str):
    for name in ("etcd", "kube-apiserver"):
        script(programs / name, "exec sleep 600")
    script(programs / "dpkg-deb", "exit 0")
    script(programs / "apt-get", f'trap {on_ctrl_c} INT; echo "$@" >> {tmp_path}/asked; sleep 600')
    with demo(programs) as process:
        said = interrupt(process, tmp_path / "asked")
    assert (tmp_path / "asked").read_text().splitlines() == ["download prometheus"]
    assert "fetching the distribution's package lists" not in said
    assert list((tmp_path / "home").iterdir()) == []
