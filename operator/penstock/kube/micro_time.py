"""MicroTime, as Leases and Events carry it: RFC 3339 in UTC with exactly six digits and ``Z``.

Written only. Nothing of ours reads a time that another machine's clock has made.
"""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the wall clock's time in UTC."""
    return datetime.now(UTC)


def micro_time(moment: datetime) -> str:
    """Format an aware `moment`; ``isoformat`` would drop the digits when they are all zero."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be told to another machine")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
