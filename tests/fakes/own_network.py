"""Tests in a network namespace of their own, where a node can be lost: its address goes, and nobody answers.

Such a test runs once more, in a pytest of its own under ``unshare``; needs no root where a user may have
namespaces. Lost packets are sent into the loopback device, which delivers none of them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

_INSIDE = "PENSTOCK_OWN_NETWORK"
_UNSHARE = ("unshare", "--user", "--map-root-user", "--net")

Test = Callable[[Path], Awaitable[None]]


def in_own_network(test: Test) -> Test:
    """Run the test, whose fixture is `tmp_path`, in a network namespace; skip it where there can be none."""

    @functools.wraps(test)
    async def outside(tmp_path: Path) -> None:
        if not _is_possible():
            pytest.skip("no network namespaces for this user, or no iproute2")
        node = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        places = (f"--basetemp={tmp_path / 'inside'}", "-o", f"cache_dir={tmp_path / 'cache'}")
        # What a whole run must not skip is no matter of this one test.
        inherited = {key: value for key, value in os.environ.items() if key != "PENSTOCK_REQUIRE"}
        process = await asyncio.create_subprocess_exec(
            *(*_UNSHARE, "--kill-child", sys.executable, "-m", "pytest", "-q", "--color=no", *places, node),
            env=inherited | {_INSIDE: "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, said.decode()

    return test if _INSIDE in os.environ else outside


@functools.cache
def _is_possible() -> bool:
    if not all(map(shutil.which, ("unshare", "ip"))):
        return False
    return subprocess.run((*_UNSHARE, "true"), capture_output=True, check=False).returncode == 0


def open_network() -> None:
    """Bring up the loopback device and, behind it, the networks of `gain_node`."""
    _ip("link set lo up")
    for family, network in ((4, "10.9.0.0/24"), (6, "fd00:9::/64")):
        _ip(f"-{family} route add {network} dev lo")


def gain_node(address: str) -> str:
    """Let a node live at an address of 10.9.0.0/24 or fd00:9::/64; return the address."""
    _ip(f"address add {address}/{ip_address(address).max_prefixlen} dev lo")
    return address


def lose_node(address: str) -> None:
    """Take a node away: what it says is lost, and what is said to it."""
    _ip(f"address delete {address}/{ip_address(address).max_prefixlen} dev lo")


def _ip(command: str) -> None:
    subprocess.run(("ip", *command.split()), check=True, capture_output=True, text=True)
