"""HTTP to servers on this machine's loopback, past any proxy that the environment names.

A proxy on another machine would ask its own loopback and answer 502 or 503 in the server's stead.
"""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import MutableMapping
from http.client import HTTPResponse

HOSTS = ("127.0.0.1", "localhost")


def open_loopback(
    request: urllib.request.Request | str, *, timeout_seconds: float, tls: ssl.SSLContext | None = None
) -> HTTPResponse:
    """Send a request as `urllib.request.urlopen` does, but to the server itself; raises as that does."""
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls))
    answer: HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=timeout_seconds)
    return answer


def exempt_loopback(environment: MutableMapping[str, str]) -> None:
    """Add loopback to what `environment` exempts from its proxies, in both spellings of the variable."""
    # A program that reads both takes one of them alone: a new one has what the other had.
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        value = environment.get(name) or environment.get(other, "")
        hosts = [host.strip() for host in value.split(",") if host.strip()]
        if hosts != ["*"]:  # exempts everything, but only while it stands alone
            environment[name] = ",".join([*hosts, *(host for host in HOSTS if host not in hosts)])
