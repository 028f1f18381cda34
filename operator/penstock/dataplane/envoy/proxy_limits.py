"""What one proxy holds at most: of each request's body, connections, and memory.

A body is kept while its stream lasts, because it may have to be sent again; what is longer is sent once. Near
the memory limit of its container a proxy answers 503, where the kernel would end it with all its streams.
"""

from __future__ import annotations

from typing import Any, Final

from penstock.dataplane.envoy.names import EXTENSION

#: Some 64,000 tokens of text. A thousand such streams, what one worker carries, fit into the default limit of
#: 512 MiB; with Envoy's own 1 MiB for each, 450 did.
KEPT_BODY_BYTES: Final = 256 * 1024

_CONNECTIONS: Final = 50_000
# Of the container's limit, used on the heap. Beside it are 55 MiB of code, and what was let in still comes:
# 2,500 long prompts at once came to 503 MiB of 512. At 0.8, and with a look each 0.25 s, it was 603 MiB.
_FULL_RATIO: Final = 0.7
_SHRINK_RATIO: Final = 0.5


def overload_manager(memory_limit_bytes: int | None) -> dict[str, Any]:
    """Return the bootstrap's ``overload_manager``; None: the container's memory has no limit."""
    connections = _monitor(
        "global_downstream_max_connections",
        "downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=_CONNECTIONS,
    )
    if memory_limit_bytes is None:
        return {"resource_monitors": [connections]}
    heap = _monitor(
        "fixed_heap",
        "fixed_heap.v3.FixedHeapConfig",
        max_heap_size_bytes=memory_limit_bytes,
    )
    return {
        "refresh_interval": "0.1s",
        "resource_monitors": [connections, heap],
        "actions": [
            # What is free within the heap would be beside what is used of it.
            _action("shrink_heap", heap, above=_SHRINK_RATIO),
            _action("stop_accepting_requests", heap, above=_FULL_RATIO),
        ],
    }


def _monitor(name: str, config: str, **fields: int) -> dict[str, Any]:
    return {
        "name": f"envoy.resource_monitors.{name}",
        "typed_config": {"@type": f"{EXTENSION}resource_monitors.{config}", **fields},
    }


def _action(name: str, monitor: dict[str, Any], *, above: float) -> dict[str, Any]:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": monitor["name"], "threshold": {"value": above}}],
    }
