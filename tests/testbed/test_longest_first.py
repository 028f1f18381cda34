"""Tests that say how long they take begin first."""

from __future__ import annotations

import pytest

from fakes import longest_first_plugin

pytest_plugins = ["pytester"]

SUITE = """
import pytest

def test_untold(): pass

@pytest.mark.seconds(5)
def test_short(): pass

@pytest.mark.seconds(90)
@pytest.mark.parametrize("which", ["a", "b"])
def test_long(which): pass
"""


def test_the_longest_begin_first_and_those_that_do_not_say_are_the_last(pytester: pytest.Pytester) -> None:
    scope = "asyncio_default_fixture_loop_scope = function"
    pytester.makeini(f"[pytest]\n{scope}\nmarkers =\n  seconds(about): s\n")
    pytester.makepyfile(SUITE)
    items = pytester.inline_run(
        "--collect-only", "-q", "-p", longest_first_plugin.__name__, "-p", "no:randomly"
    )
    names = [item.name for call in items.getcalls("pytest_collection_finish") for item in call.session.items]
    assert names == ["test_long[a]", "test_long[b]", "test_short", "test_untold"]
