"""docs/formulas.md, row by row: the call that is printed returns the value that is printed."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from penstock import queueing
from penstock.queueing import arithmetic, parallelism, phase_split

PAGE = Path(__file__).parents[2] / "docs" / "formulas.md"
NAMES = {name: getattr(queueing, name) for name in queueing.__all__}
for module in (arithmetic, parallelism, phase_split):
    NAMES |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
ROWS = re.findall(r"^\| `([^`]+)` \| ([-0-9.e]+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize(("call", "printed"), ROWS)
def test_the_printed_call_returns_the_printed_value(call: str, printed: str) -> None:
    half_a_digit = float(Decimal(5).scaleb(int(Decimal(printed).as_tuple().exponent) - 1))
    assert abs(eval(call, dict(NAMES)) - float(printed)) <= half_a_digit * 1.000001


def test_every_public_name_is_on_the_page() -> None:
    errors = {"QueueingError"}
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in queueing.__all__ if name not in text and name not in errors] == []
    assert len(ROWS) >= 38
