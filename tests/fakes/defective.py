"""A function with a defect: it fails, in a way that nobody thought of, for texts that hold a sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

More = ParamSpec("More")
Found = TypeVar("Found")


def defective(
    function: Callable[Concatenate[str, More], Found], sign: str
) -> Callable[Concatenate[str, More], Found]:
    """Return `function`, which raises OverflowError where its first argument holds `sign`."""

    def found(text: str, *more: More.args, **by_name: More.kwargs) -> Found:
        if sign in text:
            raise OverflowError("int too large to convert to float")
        return function(text, *more, **by_name)

    return found
