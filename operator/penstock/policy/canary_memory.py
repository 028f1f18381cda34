"""A canary's memory as text in status, and back: a restarted operator continues in the middle of a step.

The text is for the operator; what people read of a canary is beside it. It is written when the rest of
status.canary is, so that evidence gathered since (a minute, or 10 % of the requests) is what a restart costs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

from penstock.model.canary import (
    MOST_REJECTED,
    NO_CANARY_MEMORY,
    CanaryCommand,
    CanaryMemory,
    CanaryPhase,
    Ending,
)
from penstock.model.canary_verdict import CanaryReason
from penstock.model.decision import RolloutReason
from penstock.policy.canary_judge import JudgeMemory

# Of the schema; a longer text would lose the whole status.
LONGEST_TEXT = 65_536
_DEFAULTS = CanaryMemory()
_TEXTS = ("revision", "against", "promoted")
_COUNTS = ("step", "weight_percent", "ready")
_FLAGS = ("ever_routed", "handing_over", "by_command")


def memory_to_dict(memory: CanaryMemory) -> dict[str, Any]:
    """Return plain JSON values; what is as in an empty memory is left out."""
    found = {}
    for each in fields(CanaryMemory):
        value = getattr(memory, each.name)
        if value != getattr(_DEFAULTS, each.name):
            found[each.name] = _plain(value)
    return found


def memory_from_dict(stored: Mapping[str, Any]) -> CanaryMemory:
    """Return the memory that `memory_to_dict` wrote. Raise ValueError where it cannot be one."""
    read: dict[str, Any] = {}
    for each in fields(CanaryMemory):
        if each.name in stored:
            read[each.name] = _read(each.name, stored[each.name])
    return CanaryMemory(**read)


def stored_canary(memory: CanaryMemory, judge: JudgeMemory) -> str:
    """Return the text for status.canary.memory; "" for nothing to remember."""
    if memory == NO_CANARY_MEMORY:
        return ""
    stored = {"canary": memory_to_dict(memory), "judge": judge.to_status() if memory.under_way else {}}
    text = json.dumps(stored, separators=(",", ":"), sort_keys=True, allow_nan=False)
    if len(text) > LONGEST_TEXT:  # the machine goes on; its evidence begins anew after a restart
        return json.dumps({"canary": stored["canary"], "judge": {}}, separators=(",", ":"), sort_keys=True)
    return text


def restored_canary(status: Mapping[str, Any]) -> tuple[CanaryMemory, JudgeMemory]:
    """Return what a stored status remembers.

    Of a memory that cannot be read at least the rejected revision is kept; the run begins anew, at weight 0.
    """
    shown = status.get("canary") or {}
    if not shown.get("memory"):
        return _rejected_only(shown), JudgeMemory()
    try:
        stored = json.loads(shown["memory"])
        memory = memory_from_dict(_mapping(stored["canary"]))
    except (ValueError, TypeError, KeyError):
        return _rejected_only(shown), JudgeMemory()
    try:
        return memory, JudgeMemory.from_status(stored["judge"]) if stored.get("judge") else JudgeMemory()
    except (ValueError, TypeError, KeyError, AttributeError):
        return memory, JudgeMemory()


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no object")
    return value


def _rejected_only(shown: Mapping[str, Any]) -> CanaryMemory:
    revision = shown.get("rejectedRevision")
    if not isinstance(revision, str) or not revision:
        return NO_CANARY_MEMORY
    why = str(shown.get("rejectedBecause") or "its evidence was lost")
    before = tuple(each for each in shown.get("rejectedBefore") or () if isinstance(each, str))
    ending = Ending(revision, RolloutReason.REJECTED_REVISION, why)
    return CanaryMemory(rejected=ending, rejected_before=before[: MOST_REJECTED - 1])


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Ending):
        return {
            "revision": value.revision,
            "reason": value.reason.value,
            "message": value.message,
            "rejects": value.rejects,
        }
    return list(value) if isinstance(value, tuple) else value


def _read(name: str, value: object) -> object:
    """Read one field; each kind by its own rule, because anybody may edit a status."""
    if name in ("phase", "resume_to"):
        return CanaryPhase(str(value))
    if name == "obeyed":
        return CanaryCommand(str(value))
    if name in ("ending", "rejected"):
        return _ending(value)
    if name == "rejected_before":
        return _revisions(value)
    if name in _TEXTS:
        return _of_kind(name, value, str)
    if name in _FLAGS:
        return _of_kind(name, value, bool)
    if name in _COUNTS or name == "replicas":
        return _number(name, _of_kind(name, value, int))
    return _number(name, float(_of_kind(name, value, int, float)))


def _revisions(value: object) -> tuple[str, ...]:
    found: list[object] = _of_kind("rejected_before", value, list, tuple)
    return tuple(_of_kind("rejected_before", each, str) for each in found[: MOST_REJECTED - 1])


def _ending(value: object) -> Ending:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no ending")
    reason = str(value.get("reason"))
    known = {each.value for each in RolloutReason}
    return Ending(
        revision=str(value.get("revision")),
        reason=RolloutReason(reason) if reason in known else CanaryReason(reason),
        message=str(value.get("message")),
        rejects=value.get("rejects") is not False,
    )


def _of_kind(name: str, value: object, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise ValueError(f"{name}: {value!r} does not fit")
    return value


def _number(name: str, value: float) -> float:
    if not 0 <= value < 1e12:
        raise ValueError(f"{name}: {value!r} is out of range")
    return value
