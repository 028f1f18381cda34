"""The Prometheus of tests and demo: found or unpacked, tied to its parent, clear when it cannot start."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fakes.prometheus_fixture import ask, wait_until
from fakes.replayed_engine import ReplayedEngine
from penstock.sandbox.prometheus import (
    PrometheusProcess,
    PrometheusUnavailableError,
    ScrapeTarget,
    obtain_prometheus,
)

PARENT = """
import sys, time
from penstock.sandbox.prometheus import PrometheusProcess
process = PrometheusProcess(binary=sys.argv[1], directory=__import__("pathlib").Path(sys.argv[2]))
process.start()
print(process.url, process._process.pid, flush=True)
time.sleep(60)
"""


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def is_running(pid: int) -> bool:
    """Whether a process lives; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@pytest.mark.prometheus
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_its_parent_however_that_ends(
    prometheus_binary: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    command = [sys.executable, "-c", PARENT, str(prometheus_binary), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[1])
        assert is_running(pid)
        parent.send_signal(ending)
        parent.wait(10)
        deadline = time.monotonic() + 10
        while is_running(pid):
            assert time.monotonic() < deadline, "Prometheus outlived its parent"
            time.sleep(0.05)


@pytest.mark.prometheus
def test_started_again_it_has_the_same_address_and_its_data(prometheus: PrometheusProcess) -> None:
    with ReplayedEngine("up_since 1\n") as engine:
        prometheus.set_targets([ScrapeTarget(engine.address, {"pod": "a"})])
        wait_until(prometheus, 'up_since{pod="a"}')
        url = prometheus.url
        prometheus.stop()
        assert not prometheus.running
        prometheus.set_targets([ScrapeTarget(engine.address, {"pod": "b"})])
        prometheus.start()
        assert prometheus.url == url
        assert ask(prometheus, 'last_over_time(up_since{pod="a"}[1m])')
        wait_until(prometheus, 'up_since{pod="b"}')


@pytest.mark.prometheus
def test_nothing_is_left_behind(prometheus_binary: Path) -> None:
    with PrometheusProcess(binary=prometheus_binary) as process:
        home = process.directory
        assert home is not None
        assert home.exists()
    assert not home.exists()
    assert not process.running


def test_a_binary_that_fails_is_quoted(tmp_path: Path) -> None:
    broken = script(tmp_path / "prometheus", "echo 'level=error err=\"no space left on device\"' >&2; exit 1")
    process = PrometheusProcess(binary=broken, directory=tmp_path / "home")
    (tmp_path / "home").mkdir()
    with pytest.raises(PrometheusUnavailableError) as caught:
        process.start()
    assert str(caught.value) == 'Prometheus did not start: level=error err="no space left on device"'
    assert not process.running


def test_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = script(tmp_path / "prometheus", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert obtain_prometheus() == mine


def test_without_a_package_manager_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PrometheusUnavailableError, match="put the prometheus binary of any release"):
        obtain_prometheus()


def test_a_failed_download_is_told_after_the_lists_were_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(
        tmp_path / "apt-get",
        f'echo "$@" >> {tmp_path}/asked; echo "E: Unable to locate package" >&2; exit 100',
    )
    script(tmp_path / "dpkg-deb", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said: list[str] = []
    with pytest.raises(PrometheusUnavailableError, match="cannot download the prometheus package: E: Unable"):
        obtain_prometheus(said.append)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "download prometheus",
        "update",
        "download prometheus",
    ]
    assert said == [
        "unpacking Prometheus from the distribution's package (20 MB, no service is installed)",
        "fetching the distribution's package lists",
    ]
    assert os.listdir(tmp_path / "cache" / "penstock" / "prometheus") == []


def test_a_package_is_unpacked_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stand-ins for the two tools: what they are asked to do is what Debian's do.
    script(tmp_path / "apt-get", f'echo "$@" >> {tmp_path}/asked; touch prometheus_2.42_amd64.deb')
    script(
        tmp_path / "dpkg-deb",
        "mkdir -p usr/bin; printf '#!/bin/sh\\nexit 0\\n' > usr/bin/prometheus; chmod +x usr/bin/prometheus",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if Path("/usr/bin/prometheus").exists():
        pytest.skip("prometheus is installed here, nothing is unpacked")
    first, second = obtain_prometheus(), obtain_prometheus()
    assert first == second == tmp_path / "cache" / "penstock" / "prometheus" / "prometheus"
    assert (tmp_path / "asked").read_text().splitlines() == ["download prometheus"]
