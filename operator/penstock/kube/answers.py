"""What an answer of the API server means: which error it is, and whether asking again can help.

Only an answer that says "not processed" (429) or a call that changes nothing when it is repeated
is sent again. Waiting follows Retry-After, capped: priority and fairness asks for 1 s, a proxy in
maintenance for minutes, and by then the next tick has decided anew.
Source: Kubernetes API concepts, "Status" objects; RFC 9110, section 10.2.3.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import orjson

from penstock.kube.api import Conflict, Forbidden, KubeError, NotFound, Unavailable, Unprocessable

# 413 is etcd's limit on an object's size, 405 and 415 a subresource that cannot be patched that way.
REFUSED_CONTENT = frozenset({400, 405, 406, 413, 415, 422})
PASSING = frozenset({429, 500, 502, 503, 504})
EXCERPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of one call; `total_seconds` covers its retries and pauses as well."""

    connect_seconds: float = 5.0
    total_seconds: float = 15.0
    retries: int = 2
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0
    page_size: int = 500


def error_of(status: int, body: bytes, *, call: str) -> KubeError:
    """Build the port's error for an HTTP status of 400 and above.

    The message is the API server's own; `call` (such as ``PATCH /apis/...``) is named only where a
    proxy answered in its place.
    """
    message = _status_message(body) or _excerpt(status, body, call)
    if status in (401, 403):
        return Forbidden(message, status=status)
    if status == 404:
        return NotFound(message, status=status)
    if status == 409:
        return Conflict(message, status=status)
    if status in REFUSED_CONTENT:
        return Unprocessable(message, status=status)
    if status in (408, 429) or status >= 500:
        return Unavailable(message, status=status)
    return KubeError(message, status=status)


def pause_seconds(attempt: int, retry_after: str | None, limits: CallLimits, rng: random.Random) -> float:
    """Return how long to wait before attempt number `attempt` + 1, counted from 0.

    `retry_after` is the header's value; a date in it is ignored, since clocks differ.
    """
    backoff = limits.first_pause_seconds * (1 << attempt) * rng.uniform(0.5, 1.5)
    if retry_after is not None and retry_after.strip().isdecimal():
        # Spread over a tenth: everybody who was refused at the same moment was told the same number.
        backoff = float(retry_after) * rng.uniform(1.0, 1.1)
    return min(backoff, limits.longest_pause_seconds)


def _status_message(body: bytes) -> str:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return ""
    message = status.get("message")
    return message if isinstance(message, str) else ""


def _excerpt(status: int, body: bytes, call: str) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    shown = text if len(text) <= EXCERPT_CHARACTERS else f"{text[:EXCERPT_CHARACTERS]}…"
    return f"{call} was answered with {status}" + (f": {shown}" if shown else "")
