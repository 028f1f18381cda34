"""Tells from a server's warnings that an answer may be only a part of what there is.

Thanos and Mimir answer with what they could reach and warn of the rest, in many words. So all warnings mean
that, but two: those of what a query means begin with "PromQL", and where an answer is "truncated" at the
number of series that we asked for, that number tells it. Thanos Ruler by default aborts a rule at one:
https://thanos.io/tip/components/rule.md/#partial-response
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.metrics_source.failure import one_line
from penstock.model.reading import Absence, Reading


def incomplete(what: str, warnings: Iterable[str]) -> Reading | None:
    """Return why an answer to the query for `what` cannot be relied on; None where nothing says so."""
    for each in passed_on(warnings):
        if not each.startswith("PromQL"):
            return Reading.missing(
                Absence.PARTIAL,
                f"the answer to the query for {what} may be incomplete, the server warns: {one_line(each)}",
            )
    return None


def passed_on(warnings: Iterable[str]) -> tuple[str, ...]:
    """Return the warnings that users are shown, each once."""
    return tuple(dict.fromkeys(each for each in warnings if "truncated" not in each))
