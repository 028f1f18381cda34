"""How a record that cannot be read is refused."""

from __future__ import annotations


class RecordFault(ValueError):  # noqa: N818 - the finding is the name
    """`path` names the field (``load.arrival_rate``, empty for the whole line), `cause` what is wrong."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path}: {cause}" if path else cause)
        self.path = path
        self.cause = cause
