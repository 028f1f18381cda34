"""One Prometheus for the tests that only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.prometheus_fixture import prometheus, prometheus_binary
from fakes.scraped_fleet import ScrapedFleet, scraped_fleet

__all__ = ["prometheus", "prometheus_binary"]


@pytest.fixture(scope="session")
def fleet(prometheus_binary: Path) -> Iterator[ScrapedFleet]:
    """Every engine once or more, scraped for a whole window."""
    with scraped_fleet(prometheus_binary) as scraped:
        yield scraped
