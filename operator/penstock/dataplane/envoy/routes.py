"""RDS: one service's route: everything goes by the script of lua.py, and streams last as they last.

Of each body as much is kept as may be sent again (proxy_limits.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.lua import RouteConstants, script
from penstock.dataplane.envoy.lua_canary import PARTS, CanaryConstants
from penstock.dataplane.envoy.names import EXTENSION
from penstock.dataplane.envoy.proxy_limits import KEPT_BODY_BYTES
from penstock.model.traffic import FleetLimit, RoutePlan


@dataclass(frozen=True, slots=True)
class CanaryRoom:
    """What of a service's requests goes to its canary at one proxy: `in_flight` at once, None: any number."""

    weight_percent: int
    in_flight: int | None
    sticky_header: str = ""
    stable_serves: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """What one proxy may let in of a service, and by which clusters the pools concerned are filled."""

    limit: FleetLimit | None
    has_endpoints: bool = True
    own_pool: tuple[str, ...] = ()
    fallback_in_flight: int = 0
    fallback_pool: tuple[str, ...] = ()
    pool_limit: int | None = None
    canary: CanaryRoom | None = None  # None: no canary may get requests


def class_limits(plan: RoutePlan, limit: FleetLimit) -> dict[str, int]:
    """Return how many requests may be in the pool for one more of each class to be let in.

    At least 1 where the limit is not 0: 70 % of 1 would lock a class out of an idle pool.
    """
    ratios = {share.name: share.ratio for share in plan.classes} or {names.UNCLASSED: 1.0}
    least = min(1, limit.in_flight)
    # 0.29 * 100 is 28.999999999999996.
    return {name: max(least, int(ratio * limit.in_flight + 1e-9)) for name, ratio in ratios.items()}


def constants(plan: RoutePlan, room: Room) -> RouteConstants:
    """Return what the script decides by."""
    key, fallback = plan.key, plan.fallback
    classes = names.request_classes(plan)
    return RouteConstants(
        primary=names.cluster_name(key),
        any=names.any_cluster(key),
        rescue=names.rescue_cluster(key),
        class_header=plan.class_header if plan.classes else "",
        default_class=names.default_class(plan),
        shed={name: names.shed_cluster(key, name) for name in classes},
        own_pool=room.own_pool,
        limit=None if room.limit is None else class_limits(plan, room.limit),
        has_endpoints=room.has_endpoints,
        spill={name: names.spill_cluster(key, name) for name in names.classes_that_may_spill(plan)},
        into_fallback=names.clusters_into_fallback(plan),
        fallback_pool=room.fallback_pool,
        spill_limit=room.fallback_in_flight,
        pool_limit=room.pool_limit,
        planned_ratio=0.0 if fallback is None else fallback.planned_ratio,
        canary=None if room.canary is None else _canary(plan, room.canary),
    )


def _canary(plan: RoutePlan, room: CanaryRoom) -> CanaryConstants:
    pool = names.canary_cluster(plan.key)
    return CanaryConstants(
        # With nobody behind it, a failure would be told as the composite's, not as the canary's.
        cluster=names.canary_any_cluster(plan.key) if room.stable_serves else pool,
        pool=pool,
        parts=room.weight_percent * PARTS // 100,
        sticky_header=room.sticky_header,
        limit=room.in_flight,
        stable_serves=room.stable_serves,
    )


def route_configuration(plan: RoutePlan, room: Room) -> dict[str, Any]:
    """Return the route configuration of one service."""
    name = names.cluster_name(plan.key)
    decided = constants(plan, room)
    return {
        "@type": names.RDS,
        "name": name,
        "virtual_hosts": [
            {
                "name": name,
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": "/"},
                        "request_body_buffer_limit": KEPT_BODY_BYTES,
                        "metadata": {
                            "filter_metadata": {
                                names.METADATA: {"retry_after_seconds": str(plan.retry_after_seconds)}
                            }
                        },
                        "route": {
                            "inline_cluster_specifier_plugin": {
                                "extension": {
                                    "name": "envoy.router.cluster_specifier_plugin.lua",
                                    "typed_config": {
                                        "@type": EXTENSION + "router.cluster_specifiers.lua.v3.LuaConfig",
                                        "source_code": {"inline_string": script(decided)},
                                        "default_cluster": decided.primary,
                                    },
                                }
                            },
                            "timeout": "0s",
                        },
                    }
                ],
                "response_headers_to_add": _told(),
            }
        ],
    }


def _told() -> list[dict[str, Any]]:
    return [
        {
            "header": {"key": header, "value": f"%UPSTREAM_METADATA({names.METADATA}:{field})%"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for header, field in ((names.SERVED_BY, "served_by"), (names.REASON, "reason"))
    ]
