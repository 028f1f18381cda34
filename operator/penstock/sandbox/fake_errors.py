"""Failures as the API server words them: clients and tests see the same status, reason and message."""

from __future__ import annotations

from typing import Any


class ApiFailure(Exception):  # noqa: N818 - an answer of the server, not an error of ours
    """A request that is answered with a `Status`."""

    def __init__(self, code: int, reason: str, message: str, *, retry_after_seconds: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the ``Status`` object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


def not_found(qualified: str, name: str) -> ApiFailure:
    """Return 404 for an object."""
    return ApiFailure(404, "NotFound", f'{qualified} "{name}" not found')


def no_such_path() -> ApiFailure:
    """Return 404 for a type or subresource that is not served."""
    return ApiFailure(404, "NotFound", "the server could not find the requested resource")


def already_exists(qualified: str, name: str) -> ApiFailure:
    """Return 409 for a create."""
    return ApiFailure(409, "AlreadyExists", f'{qualified} "{name}" already exists')


def stale(qualified: str, name: str) -> ApiFailure:
    """Return 409 for a write that names an old resourceVersion."""
    return ApiFailure(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified} "{name}": the object has been modified; please apply '
        "your changes to the latest version and try again",
    )


def invalid(kind: str, group: str, name: str, detail: str) -> ApiFailure:
    """Return 422 for content that is refused."""
    what = f"{kind}.{group}" if group else kind
    return ApiFailure(422, "Invalid", f'{what} "{name}" is invalid: {detail}')


def bad_request(message: str) -> ApiFailure:
    """Return 400."""
    return ApiFailure(400, "BadRequest", message)


def expired(message: str) -> ApiFailure:
    """Return 410: list again."""
    return ApiFailure(410, "Expired", message)
