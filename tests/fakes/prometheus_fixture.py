"""Fixtures with a real Prometheus: import what is needed into a conftest.py.

Tests that use them carry the marker ``prometheus``; where the binary can neither be found nor unpacked
they are skipped with the reason.
"""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.sandbox.loopback import open_loopback
from penstock.sandbox.prometheus import PrometheusProcess, PrometheusUnavailableError, obtain_prometheus


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    """The Prometheus binary."""
    try:
        return obtain_prometheus()
    except PrometheusUnavailableError as error:
        pytest.skip(f"no Prometheus: {error}")


@pytest.fixture
def prometheus(prometheus_binary: Path) -> Iterator[PrometheusProcess]:
    """A Prometheus of the test's own that scrapes twice a second."""
    with PrometheusProcess(scrape_interval_seconds=0.5, binary=prometheus_binary) as process:
        yield process


def ask(process: PrometheusProcess, query: str) -> list[Any]:
    """Return the result of an instant query, by other means than the code under test."""
    url = f"{process.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with open_loopback(url, timeout_seconds=10) as answer:
        result: list[Any] = json.load(answer)["data"]["result"]
    return result


def wait_until(process: PrometheusProcess, query: str, *, within_seconds: float = 30.0) -> None:
    """Wait until `query` gives something."""
    deadline = time.monotonic() + within_seconds
    while not ask(process, query):
        if time.monotonic() > deadline:
            raise AssertionError(f"{query} gives nothing after {within_seconds:g} s: {process.log[-2000:]}")
        time.sleep(0.1)
