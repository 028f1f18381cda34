"""The verdict on a canary: errors, latencies and the user's checks together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.model.canary_counts import Increments
from penstock.model.canary_verdict import JudgeLimits, Verdict


@dataclass(frozen=True, slots=True)
class JudgeMemory:
    """Everything the judge remembers; `to_status` and `from_status` carry it across a restart."""

    started_at: float | None = None

    def to_status(self) -> dict[str, Any]:
        """Return plain JSON values, a few kilobytes."""
        raise NotImplementedError

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> JudgeMemory:
        """Return the memory that `to_status` wrote. Raise ValueError where it cannot be one."""
        raise NotImplementedError


def judge(
    memory: JudgeMemory, increments: Increments, limits: JudgeLimits, now: float
) -> tuple[Verdict, JudgeMemory]:
    """Return the verdict after `increments`, and what to remember. `now` in Unix seconds."""
    raise NotImplementedError
