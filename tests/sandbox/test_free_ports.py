"""Ports for servers of demos and tests: free, below what the kernel hands out, never the same twice."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from penstock.sandbox import child_process
from penstock.sandbox.child_process import free_port


def ranged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    told = tmp_path / "ip_local_port_range"
    told.write_text(f"{first}\t60999\n")
    monkeypatch.setattr(child_process, "_LOCAL_PORTS", told)


def test_no_port_is_given_twice_and_none_is_one_that_the_kernel_hands_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranged(tmp_path, monkeypatch, 32768)
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == 500
    assert all(10_240 <= port < 32_768 for port in ports)


def test_a_port_that_somebody_listens_on_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranged(tmp_path, monkeypatch, 32768)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        chosen = iter([taken.getsockname()[1] - 10_240, 7])
        monkeypatch.setattr(child_process.secrets, "randbelow", lambda _: next(chosen))
        monkeypatch.setattr(child_process, "_given", set())
        assert free_port() == 10_247


@pytest.mark.parametrize("first", [1024, 10_240, 11_000])
def test_where_the_kernel_hands_out_nearly_all_ports_it_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    ranged(tmp_path, monkeypatch, first)
    port = free_port()
    assert 1024 <= port <= 65_535
    with socket.create_server(("127.0.0.1", port)):
        pass
