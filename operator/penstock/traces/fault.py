"""How a trace that cannot be used is refused."""

from __future__ import annotations


class TraceFault(ValueError):  # noqa: N818 - the finding is the name
    """`cause` names file and line, `fix` says what to write there."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}\nFix: {fix}")
        self.cause = cause
        self.fix = fix


class SilentSpan(TraceFault):
    """No request arrives in the part of the trace that was asked for."""
