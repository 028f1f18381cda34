"""Everything one proxy is to have: resources by type URL and name, built from plans and its shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.model.spec import ServiceKey
from penstock.model.traffic import FleetLimit, RouteState

Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProxyShare:
    """What one proxy may let in of a service's limits.

    `limit` None: everything passes. `fallback_in_flight`: requests of this service's in the fallback's pool.
    `pool_limit`: in the whole of that pool, the fallback's own clients included; None: it has no limit of ours.
    """

    limit: FleetLimit | None
    fallback_in_flight: int
    pool_limit: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Resources by type URL and name, each a JSON object with its ``@type``."""

    resources: Mapping[str, Mapping[str, Resource]]


def render(
    states: Sequence[RouteState],
    shares: Mapping[ServiceKey, ProxyShare],
    *,
    listen_address: str = "0.0.0.0",  # noqa: S104 - a gateway is there to be reached
) -> Snapshot:
    """Return what a proxy with these shares is to have.

    Raises KeyError when a service has no share.
    """
    raise NotImplementedError
