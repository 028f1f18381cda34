"""Values that Python does not guard are guarded while tests run, and are otherwise the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from penstock.model.reading import Reading
from penstock.model.value import value


def test_tests_run_with_the_guard() -> None:
    with pytest.raises(FrozenInstanceError):
        Reading(1.0).value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("guard", ["", "1"])
def test_a_value_is_compared_hashed_and_replaced_by_its_fields(
    guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_FROZEN_VALUES", guard)

    @value(frozen=True, slots=True)
    class Pair:
        one: int
        two: str = "x"

    assert Pair(1) == Pair(1, "x") != Pair(2)
    assert len({Pair(1), Pair(1, "x"), Pair(2)}) == 2
    assert replace(Pair(1), two="y") == Pair(1, "y")
    assert not hasattr(Pair(1), "__dict__")
