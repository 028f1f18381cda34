"""A start that is given up: the threads that wait for programs notice, and start no more of them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.sandbox.apiserver import ApiServer, ApiServerUnavailableError
from penstock.sandbox.prometheus import PrometheusProcess, PrometheusUnavailableError, obtain_prometheus


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_server_that_is_stopped_gives_up_its_start_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("etcd", "kube-apiserver"):
        script(tmp_path / name, "exec sleep 600")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    server = ApiServer()
    with ThreadPoolExecutor() as threads:
        starting = threads.submit(server.start)
        while len(server._children) < 2:
            time.sleep(0.01)
        children, home = list(server._children), server.home
        began = time.monotonic()
        server.stop()
        with pytest.raises(ApiServerUnavailableError, match=r"^stopped before it was ready$"):
            starting.result()
    assert time.monotonic() - began < 15  # 60 without a word
    assert not any(child.running for child in children)
    assert not home.exists()
    assert server.home == Path()


def test_a_prometheus_that_is_closed_while_it_is_spawned_gives_up_its_start_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path / "prometheus", "exec sleep 600")
    process = PrometheusProcess(binary=tmp_path / "prometheus", directory=tmp_path)
    spawning, spawn = threading.Event(), PrometheusProcess._spawn

    def slowly(process: PrometheusProcess, home: Path, port: int) -> None:
        spawning.set()
        time.sleep(0.3)
        spawn(process, home, port)

    monkeypatch.setattr(PrometheusProcess, "_spawn", slowly)
    with ThreadPoolExecutor() as threads:
        starting = threads.submit(process.start)
        spawning.wait()
        began = time.monotonic()
        process.close()
        with pytest.raises(PrometheusUnavailableError, match=r"^Prometheus did not start"):
            starting.result()
    assert time.monotonic() - began < 15  # 30 without a word
    assert not process.running


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No Prometheus here but in a package; the file will list what apt-get is asked."""
    script(tmp_path / "dpkg-deb", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "asked"


def test_a_download_that_a_signal_ended_is_not_tried_again(asked: Path, tmp_path: Path) -> None:
    script(tmp_path / "apt-get", f'echo "$@" >> {asked}; kill -INT $$')
    said: list[str] = []
    with pytest.raises(PrometheusUnavailableError) as caught:
        obtain_prometheus(said.append)
    assert str(caught.value) == "apt-get was ended by signal 2"
    assert asked.read_text().splitlines() == ["download prometheus"]
    assert "fetching the distribution's package lists" not in said


@pytest.mark.parametrize("code", [0, 100])
def test_nothing_follows_the_step_in_which_it_was_stopped(asked: Path, tmp_path: Path, code: int) -> None:
    script(tmp_path / "apt-get", f'echo "$@" >> {asked}; exit {code}')
    stop = threading.Event()
    stop.set()
    said: list[str] = []
    with pytest.raises(PrometheusUnavailableError, match=r"^stopped after apt-get$"):
        obtain_prometheus(said.append, stop)
    assert asked.read_text().splitlines() == ["download prometheus"]
    assert len(said) == 1
