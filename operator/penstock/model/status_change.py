"""Whether a status tells something new, and the patch that writes it.

At once when a condition, a reason, the wanted count, a floor, whether limits are enforced, or a canary's
phase or step changes; otherwise at most once in 60 seconds, and only if a replica count or a wording changed,
a signal came or went, or a number moved by more than 10 %. Every write is a revision in etcd and an event
for everybody who watches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from penstock.model.conditions import ConditionType, differ, read_conditions
from penstock.model.duration import parse_duration
from penstock.model.objective_counts import parse_days, total

NUMBERS_EVERY_SECONDS = 60.0
MOVED_RATIO = 0.1
# What a canary's state is, beside its numbers; its memory is written along with these and those, so that
# evidence which grows by a request is no write, and a restart costs a tenth of it at most.
_CANARY_STATE = ("phase", "revision", "stableRevision", "rejectedRevision", "step", "weightPercent")
_ROW_NUMBERS = ("canaryRequests", "canaryBad", "stableRequests", "stableBad")
_WORDS = ("source", "mode", "backend")  # what is no number in the sections that hold numbers


def meaningful_change(old: Mapping[str, Any], new: Mapping[str, Any], *, seconds_since_write: float) -> bool:
    """Whether `new` is worth a write now. `old` is what the API server has, {} when it has none."""
    if differ(read_conditions(old), read_conditions(new)):
        return True
    if any(old.get(name) != new.get(name) for name in ("observedGeneration", "foreignFloor")):
        return True
    if _acted_upon(old) != _acted_upon(new):
        return True
    if seconds_since_write < NUMBERS_EVERY_SECONDS:
        return False
    before, after = dict(_numbers(old)), dict(_numbers(new))
    if before.keys() != after.keys() or old.get("replicas") != new.get("replicas"):
        return True
    if _wordings(old) != _wordings(new):
        return True
    # Negated so that NaN, a number which nobody can read, counts as moved.
    return not all(abs(after[name] - before[name]) <= MOVED_RATIO * abs(before[name]) for name in after)


def status_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7386) that makes `old` into `new`: null for what is gone."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        known = old.get(name)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inner := status_patch(known, value):
                patch[name] = inner
        elif known != value:
            patch[name] = value
    return patch


def wording(kind: str, message: str) -> str:
    """Return what the message of a condition says beside its numbers, which are compared apart.

    Accepted's keeps them: it measures nothing, and of the Services that it names chat-1 is not chat-2.
    """
    return message if kind == ConditionType.ACCEPTED else _without_numbers(message)


def _acted_upon(status: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what users act upon, and what a restarted operator must know."""
    decision, replicas = status.get("decision") or {}, status.get("replicas") or {}
    admission, fallback = status.get("admission") or {}, status.get("fallback") or {}
    return (
        decision.get("reason"),
        replicas.get("desired"),
        admission.get("mode"),
        fallback.get("backend"),
        *((status.get("canary") or {}).get(name) for name in _CANARY_STATE),
    )


def _wordings(status: Mapping[str, Any]) -> list[str]:
    """Return all messages without their numbers: those move at every look and are compared apart."""
    conditions = status.get("conditions") or ()
    return [
        _without_numbers((status.get("decision") or {}).get("message", "")),
        *(wording(entry.get("type", ""), entry.get("message", "")) for entry in conditions),
        _without_numbers((status.get("load") or {}).get("source", "")),
        _without_numbers((status.get("canary") or {}).get("evidence", "")),
    ]


def _without_numbers(message: str) -> str:
    return re.sub(r"[0-9][0-9.,]*( ?m?s)?", "#", message)


def _numbers(status: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield every published number by its path."""
    for section in ("load", "admission", "fallback", "learned"):
        for name, value in (status.get(section) or {}).items():
            if name not in _WORDS:
                yield f"{section}.{name}", _value(value)
    canary = status.get("canary") or {}
    if "weightPercent" in canary:
        yield "canary.weightPercent", _value(canary["weightPercent"])
    for row in canary.get("rows") or ():
        for name in _ROW_NUMBERS:
            if name in row:
                yield f"canary.{row['metric']}.{name}", _value(row[name])
    for objective in status.get("objectives") or ():
        for name in ("measured", "budgetRemainingPercent"):
            if name in objective:
                yield f"objectives.{objective['name']}.{name}", _value(objective[name])
        if "days" in objective:
            # A restart costs a tenth of the requests that a budget was counted from, at most.
            requests = total(parse_days(objective["days"])).requests
            yield f"objectives.{objective['name']}.requests", requests


def _value(published: object) -> float:
    """Return a published number; NaN for what somebody else wrote there."""
    text = str(published)
    try:
        return parse_duration(text) if text.endswith(("s", "m", "h")) else float(text.removesuffix("%"))
    except ValueError:
        return math.nan
