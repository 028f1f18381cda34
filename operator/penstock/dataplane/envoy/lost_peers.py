"""How a peer whose node is gone is noticed: the kernel asks it, and closes the connection without an answer.

A node that dies sends no FIN. Linux would ask after two hours, and repeat unacknowledged data for 15 minutes
(``tcp_retries2``). Meanwhile a stream to it holds its place under a limit that shrinks with the replicas: of
6 places 5 were held by nobody. A kernel that lives answers for a process that is busy or silent, so a prefill
of minutes lasts. Source: tcp(7); the numbers of options are Linux's.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

_ASK_AFTER_SECONDS: Final = 10
_ASK_EVERY_SECONDS: Final = 5
_ASK_TIMES: Final = 3
#: Until a connection to a lost peer is closed.
NOTICED_SECONDS: Final = _ASK_AFTER_SECONDS + _ASK_EVERY_SECONDS * _ASK_TIMES
#: The same of a client. Longer, because one that lives but reads nothing, while all buffers on its way are
#: full, is given up after the same time.
CLIENT_NOTICED_SECONDS: Final = 60

_SOL_SOCKET, _SO_KEEPALIVE = 1, 9
_IPPROTO_TCP, _TCP_KEEPIDLE, _TCP_KEEPINTVL, _TCP_KEEPCNT, _TCP_USER_TIMEOUT = 6, 4, 5, 6, 18
_ASKED: Final = (
    (_SOL_SOCKET, _SO_KEEPALIVE, 1),
    (_IPPROTO_TCP, _TCP_KEEPIDLE, _ASK_AFTER_SECONDS),
    (_IPPROTO_TCP, _TCP_KEEPINTVL, _ASK_EVERY_SECONDS),
    (_IPPROTO_TCP, _TCP_KEEPCNT, _ASK_TIMES),
)


def asked() -> dict[str, Any]:
    """Return what has a cluster's silent connections asked."""
    return {
        "upstream_connection_options": {
            "tcp_keepalive": {
                "keepalive_time": _ASK_AFTER_SECONDS,
                "keepalive_interval": _ASK_EVERY_SECONDS,
                "keepalive_probes": _ASK_TIMES,
            }
        }
    }


def asked_and_timed() -> dict[str, Any]:
    """Return the same for a cluster to which data may be under way, that must be acknowledged as soon."""
    # Nobody is asked while data is unacknowledged. An engine that reads nothing of a body larger than its
    # kernel takes for as long is closed as well.
    milliseconds = NOTICED_SECONDS * 1000
    return asked() | {
        "upstream_bind_config": {"socket_options": _options((_IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds))}
    }


def clients_asked() -> list[dict[str, Any]]:
    """Return the socket options of a listener, which the connections of clients inherit."""
    return _options(*_ASKED, (_IPPROTO_TCP, _TCP_USER_TIMEOUT, CLIENT_NOTICED_SECONDS * 1000))


def proxies_asked(listening: socket.socket) -> None:
    """Have the connections asked that the xDS server accepts at a socket, and its answers timed."""
    if sys.platform == "linux":
        for option in (*_ASKED, (_IPPROTO_TCP, _TCP_USER_TIMEOUT, NOTICED_SECONDS * 1000)):
            listening.setsockopt(*option)


def _options(*values: tuple[int, int, int]) -> list[dict[str, Any]]:
    if sys.platform != "linux":  # a demo: gateways run where the operator does
        return []
    return [
        {"level": level, "name": name, "int_value": value, "state": "STATE_PREBIND"}
        for level, name, value in values
    ]
