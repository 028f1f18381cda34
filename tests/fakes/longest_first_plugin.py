"""Begins the longest tests first: those that say with ``@pytest.mark.seconds(190)`` about how long they take.

Workers that take the next test then end together. Begun as the last, a test of three minutes keeps one worker
busy and the others idle.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by the told seconds; the others keep their (random) order behind."""
    items.sort(key=seconds, reverse=True)


def seconds(item: pytest.Item) -> float:
    """Return how long a test says it takes; 0 where it does not say."""
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 0.0
