"""End a proxy without cutting a stream: what the gateway pod's preStop hook does.

Envoy itself exits at once on SIGTERM. So first its health check is failed, after which every response says
``connection: close`` and keep-alive clients go to another pod; then this waits until no request is active.
Envoy keeps accepting meanwhile, because nodes learn only after seconds that the pod is leaving.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Every node's rules must have left the pod out: a second or two, five on a large cluster.
LEAST_SECONDS: Final = 5.0
_ACTIVE: Final = r"^http\.[^.]+\.downstream_rq_active$"
_INTERNAL: Final = re.compile(r"^http\.(admin|stats)\.")
_CALL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Drained:
    """How it ended: requests still active at the deadline, 0 when all were answered."""

    waited_seconds: float
    active: int


def drain(
    admin_port: int,
    *,
    deadline_seconds: float,
    host: str = "127.0.0.1",
    least_seconds: float = LEAST_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Drained:
    """Make the proxy refuse keep-alive and wait until it has no request left, or the deadline.

    Raises `OSError` when there is no proxy at the admin port; one that ends meanwhile has nothing left.
    """
    began = monotonic()
    _call(host, admin_port, "POST", "/healthcheck/fail")
    active = 0
    idle_looks = 0
    while True:
        waited = monotonic() - began
        try:
            active = active_requests(host, admin_port)
        except OSError:
            return Drained(waited, 0)
        # Twice in a row: between two requests of one client it looks idle, too.
        idle_looks = 0 if active else idle_looks + 1
        if waited >= deadline_seconds or (idle_looks >= 2 and waited >= least_seconds):
            return Drained(waited, active)
        sleep(min(0.5, max(0.0, deadline_seconds - waited)))


def active_requests(host: str, admin_port: int) -> int:
    """Return how many requests all services' listeners are serving now. Raises `OSError`."""
    body = _call(host, admin_port, "GET", f"/stats?format=json&filter={_ACTIVE}")
    stats = json.loads(body)["stats"]
    return sum(int(each["value"]) for each in stats if "name" in each and not _INTERNAL.match(each["name"]))


def _call(host: str, port: int, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=_CALL_SECONDS)
    try:
        connection.request(method, path.replace("^", "%5E").replace("+", "%2B"))
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"the proxy's admin port answered {method} {path} with {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError(f"the proxy's admin port answered {method} {path} with {answer.status}")
    return body
