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
_LEAST_CALL_SECONDS: Final = 0.5  # however near the deadline


@dataclass(frozen=True, slots=True)
class Drained:
    """How it ended: requests still active at the deadline; 0: all were answered, None: it did not tell."""

    waited_seconds: float
    active: int | None


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

    Raises `ConnectionRefusedError` when there is no proxy at the admin port; one that ends meanwhile has
    nothing left. One that answers late or wrongly (a busy machine) may hold streams: it is asked again.
    """
    began = monotonic()
    is_met, is_told = False, False  # there is a proxy; its health check was failed
    idle_looks = 0
    while True:
        waited = monotonic() - began
        patience = min(_CALL_SECONDS, max(_LEAST_CALL_SECONDS, deadline_seconds - waited))
        active = None
        try:
            if not is_told:
                _call(host, admin_port, "POST", "/healthcheck/fail", patience)
                is_met = is_told = True
            active = active_requests(host, admin_port, timeout_seconds=patience)
        except ConnectionRefusedError:
            if not is_met:
                raise
            return Drained(waited, 0)
        except OSError:
            pass  # not known, which is not idle
        is_met = True
        # Twice in a row: between two requests of one client it looks idle, too.
        idle_looks = idle_looks + 1 if active == 0 else 0
        if waited >= deadline_seconds or (idle_looks >= 2 and waited >= least_seconds):
            return Drained(waited, active)
        sleep(min(0.5, max(0.0, deadline_seconds - waited)))


def active_requests(host: str, admin_port: int, *, timeout_seconds: float = _CALL_SECONDS) -> int:
    """Return how many requests all services' listeners are serving now. Raises `OSError`."""
    body = _call(host, admin_port, "GET", f"/stats?format=json&filter={_ACTIVE}", timeout_seconds)
    try:
        stats = json.loads(body)["stats"]
        return sum(
            int(each["value"]) for each in stats if "name" in each and not _INTERNAL.match(each["name"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"the proxy's admin port answered with no statistics: {error!r}") from error


def _call(host: str, port: int, method: str, path: str, timeout_seconds: float) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
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
