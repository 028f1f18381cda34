"""How the operator knows its proxies: a token per gateway group, derived from one key of the operator.

Nothing is stored: after a restart the same key gives the same tokens. A group's token lets its holder read
that group's configuration, so a namespace's gateways cannot ask for another namespace's endpoints.
Source: RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac

SHORTEST_KEY_BYTES = 16
_PURPOSE = b"penstock/xds/group\0"  # the key may serve other purposes one day


def group_token(key: bytes, group: str) -> str:
    """Return the token of a group, 64 hexadecimal digits. Raises `ValueError` for a key below 16 bytes."""
    if len(key) < SHORTEST_KEY_BYTES:
        raise ValueError(
            f"the gateways' key has {len(key)} bytes: use at least {SHORTEST_KEY_BYTES} random ones"
        )
    return hmac.new(key, _PURPOSE + group.encode(), hashlib.sha256).hexdigest()
