"""What a test makes go wrong at the fake API, and the count of what was asked of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from penstock.sandbox.fake_errors import ApiFailure

_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request as faults and counters see it; `plural` may carry a subresource: ``deployments/scale``."""

    verb: str  # get, list, watch, create, update, patch, delete
    plural: str


@dataclass(slots=True)
class Fault:
    """An answer other than the right one, for the next `times` requests that fit ("": any).

    With `code` 0 the request is only delayed by `delay_seconds`, then served.
    """

    verb: str = ""
    plural: str = ""
    code: int = 0
    times: int = 1
    delay_seconds: float = 0.0
    retry_after_seconds: int = 0
    message: str = "injected by the test"

    def fits(self, call: Call) -> bool:
        """Whether it applies to a request."""
        return self.times > 0 and self.verb in ("", call.verb) and self.plural in ("", call.plural)

    def failure(self) -> ApiFailure | None:
        """Return the answer to give; None when the request is only delayed."""
        if not self.code:
            return None
        reason = _REASONS.get(self.code, "InternalError")
        return ApiFailure(self.code, reason, self.message, retry_after_seconds=self.retry_after_seconds)


class Faults:
    """Faults in waiting."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let the next requests that fit go wrong."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Let everything go right again."""
        self._waiting.clear()

    def take(self, call: Call) -> Fault | None:
        """Return the fault that this request runs into, and count it off."""
        for fault in self._waiting:
            if fault.fits(call):
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
                return fault
        return None


class RequestCount:
    """Requests served, by verb and resource."""

    def __init__(self) -> None:
        self._counts: Counter[Call] = Counter()

    def add(self, call: Call) -> None:
        """Count a request."""
        self._counts[call] += 1

    def total(self, verb: str = "", plural: str = "") -> int:
        """Return the number of requests that fit ("": any)."""
        return sum(
            count
            for call, count in self._counts.items()
            if verb in ("", call.verb) and plural in ("", call.plural)
        )

    def writes(self) -> int:
        """Return the number of requests that asked for a change."""
        return sum(self.total(verb) for verb in ("create", "update", "patch", "delete"))

    def reset(self) -> None:
        """Start from zero."""
        self._counts.clear()

    def to_dict(self) -> dict[str, int]:
        """Return the counts by ``verb plural``."""
        return {f"{call.verb} {call.plural}": count for call, count in sorted(self._counts.items(), key=str)}
