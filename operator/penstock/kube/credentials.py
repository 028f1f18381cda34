"""The Authorization header of each call, and where a new one comes from after a 401.

Service-account tokens are rotated by the kubelet (by default every hour) by swapping a symlink, so
the file is looked at for every call (a stat, 2 µs) and read when it was replaced.
"""

from __future__ import annotations

import os
from typing import Protocol

from penstock.kube.api import Unavailable


class Credentials(Protocol):
    """Where the Authorization header comes from."""

    def authorization(self) -> str:
        """Return the header's value; empty for none. Raises `KubeError`."""

    async def renew(self, rejected: str) -> None:
        """Get another one in place of `rejected`, which was answered with 401. Raises `KubeError`."""


class TokenFile:
    """A bearer token in a file that is replaced now and then."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._token = ""

    def authorization(self) -> str:
        """Return ``Bearer <token>``, read again if the file was replaced."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                with open(self._path, encoding="ascii") as file:
                    self._token = file.read().strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a token"
            raise Unavailable(f"cannot read the token file {self._path}: {reason}") from None
        if not self._token.isprintable() or not self._token:
            self._stamp = None
            raise Unavailable(f"the token file {self._path} holds no token on a single line")
        return f"Bearer {self._token}"

    async def renew(self, rejected: str) -> None:
        """Read the file again whatever its stamp says."""
        del rejected
        self._stamp = None
