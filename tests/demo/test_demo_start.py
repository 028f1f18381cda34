"""The demo's first seconds, with stand-ins for programs it starts: proxies, logs, a real API, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, SERVICES
from penstock.sandbox.apiserver import ApiServerUnavailableError, find_binary
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster
from penstock.sandbox.demo.manifests import deployments, inference_services, services
from penstock.sandbox.demo.scene import NAME, NAMESPACE, quick_scene

COMMAND = [sys.executable, "-m", "penstock", "demo", "--quick", "--api=real"]
# Answers every request, as Prometheus answers whether it is ready.
READY = (
    "import http.server, sys\n"
    "print('the stand-in speaks', flush=True)\n"
    "port = int(next(each for each in sys.argv if 'web.listen' in each).rpartition(':')[2])\n"
    "handler = http.server.BaseHTTPRequestHandler\n"
    "handler.do_GET = lambda self: (self.send_response(200), self.end_headers())\n"
    "http.server.HTTPServer(('127.0.0.1', port), handler).serve_forever()\n"
)


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
    script(programs / "prometheus", READY, sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path / "home", quick_scene(), lambda kind, text: None)
        await cluster.open(stack, ApiChoice.FAKE)
        assert (cluster.logs / "prometheus.log").read_text().startswith("the stand-in speaks\n")


async def ready_replicas(kube: AioKubeApi) -> int:
    """How many the Deployment's status tells of."""
    status = (await kube.get(DEPLOYMENTS, NAMESPACE, NAME)).get("status", {})
    return int(status.get("readyReplicas", 0))


@pytest.mark.api
async def test_on_a_real_api_the_replicas_get_ready_and_the_operators_kubeconfig_shows_them(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    try:
        find_binary("etcd")
        find_binary("kube-apiserver")
    except ApiServerUnavailableError as error:
        pytest.skip(str(error))
    script(programs / "prometheus", READY, sys.executable)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    scene = replace(quick_scene(), initial_replicas=1, startup_seconds=0.0)
    said: list[str] = []
    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path / "home", scene, lambda kind, text: said.append(text))
        await cluster.open(stack, ApiChoice.REAL)
        for resource, bodies in (
            (DEPLOYMENTS, deployments(scene)),
            (SERVICES, services(scene)),
            (INFERENCE_SERVICES, inference_services(scene)),
        ):
            for body in bodies:
                await cluster.apply(resource, body)
        kube = await connect(kubeconfig=str(cluster.kubeconfig))
        stack.push_async_callback(kube.close)
        async with asyncio.timeout(60):
            while not cluster.urls_file.exists() or await ready_replicas(kube) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert tuple(cluster.urls_file.read_text().split()) == cluster.engine_urls()
        (service,) = await kube.list(INFERENCE_SERVICES, NAMESPACE)
        assert service["spec"]["replicas"]["initialStartup"] == "8s"
    assert [text for text in said if text.startswith("a real kube-apiserver at https://127.0.0.1:")]


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
