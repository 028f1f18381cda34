"""Where a Prometheus API is and what it takes to be let in; shared by both adapters.

Secrets never show: not in repr, not in messages, not in the address. A token file is read again
when it changes, because service-account tokens are rotated (by default every hour).
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from penstock.metrics_source.base import ErrorKind, QueryError

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Connection:
    """Address, credentials and TLS of a Prometheus API.

    `url` is the API's root with its path prefix, without ``/api/v1``; user and password in it are
    taken as basic authentication. Several tenants: ``headers={"X-Scope-OrgID": "team-a"}``.
    Raises ValueError with what to write instead.
    """

    url: str = field(repr=False)
    bearer_token: str = field(default="", repr=False)
    bearer_token_file: str = ""
    basic_user: str = ""
    basic_password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    insecure_skip_verify: bool = False
    connect_timeout_seconds: float = 3.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "the Prometheus address must be a URL such as http://prometheus.monitoring:9090 "
                "or https://mimir.example/prometheus"
            )
        if parts.query or parts.fragment:
            raise ValueError("the Prometheus address takes no query or fragment: give the API's root only")
        if parts.username and not self.basic_user:
            object.__setattr__(self, "basic_user", parts.username)
            object.__setattr__(self, "basic_password", parts.password or "")
        host = parts.netloc.rpartition("@")[2]
        path = parts.path.rstrip("/").removesuffix("/api/v1")
        object.__setattr__(self, "url", urlunsplit((parts.scheme, host, path, "", "")))
        ways = [bool(self.bearer_token), bool(self.bearer_token_file), bool(self.basic_user)]
        if sum(ways) > 1:
            raise ValueError("give one of a bearer token, a bearer token file and a basic user, not several")
        if bool(self.client_certificate_file) != bool(self.client_key_file):
            raise ValueError("a client certificate needs its key, and a key its certificate")
        for name, value in self.headers.items():
            if not HEADER_NAME.fullmatch(name) or "\n" in value or "\r" in value:
                raise ValueError(f"{name!r} is not a header that can be sent: use Name=value on one line")

    def endpoint(self, path: str) -> str:
        """Return the URL of an API path such as ``query``."""
        return f"{self.url}/api/v1/{path}"

    def tls_files(self) -> tuple[str, ...]:
        """Return the files that the TLS context is made of."""
        return tuple(filter(None, (self.ca_file, self.client_certificate_file, self.client_key_file)))

    def tls_context(self) -> ssl.SSLContext | None:
        """Return the TLS context; None for plain HTTP. Raises OSError for files that cannot be used."""
        if not self.url.startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.client_certificate_file:
            context.load_cert_chain(self.client_certificate_file, self.client_key_file)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Credentials:
    """Headers of one connection; the token file is read again when it was replaced."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stamp: tuple[int, ...] = ()
        self._token = ""

    def headers(self, query: str) -> dict[str, str]:
        """Return the headers to send. Raises `QueryError` when the token file cannot be read."""
        connection = self._connection
        headers = dict(connection.headers)
        if connection.bearer_token_file:
            headers["Authorization"] = f"Bearer {self._read_token(query)}"
        elif connection.bearer_token:
            headers["Authorization"] = f"Bearer {connection.bearer_token}"
        elif connection.basic_user:
            pair = f"{connection.basic_user}:{connection.basic_password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers

    def _read_token(self, query: str) -> str:
        path = self._connection.bearer_token_file
        try:
            stamp = file_stamp(path)
            if stamp != self._stamp:
                with open(path, encoding="utf-8") as file:
                    self._token = file.read().strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            message = f"cannot read the bearer token file {path}: {reason}; mount it or name another"
            raise QueryError(ErrorKind.UNAUTHORIZED, query, message) from None
        if not self._token or not self._token.isprintable():
            self._stamp = ()
            message = f"the bearer token file {path} holds no token on a single line"
            raise QueryError(ErrorKind.UNAUTHORIZED, query, message)
        return self._token


def file_stamp(path: str) -> tuple[int, ...]:
    """Return what changes when a file is replaced, also when a symlink in its path is swapped."""
    status = os.stat(path)
    return (status.st_ino, status.st_mtime_ns, status.st_size)
