"""The last plans as JSON, for gateway pods born while the operator is down: it writes, their agent reads.

Only what a plan is made of: endpoints are read live, limits follow from those per replica. Another schema
number is refused rather than guessed: a gateway without configuration is seen, a wrong limit is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from penstock.model.spec import ServiceKey
from penstock.model.traffic import Backend, CanaryRoute, ClassShare, FallbackPlan, FleetLimit, RoutePlan

SCHEMA: Final = 1
#: A ConfigMap holds 1 MiB; a service with a fallback and two classes takes some 700 bytes.
LARGEST_BYTES: Final = 1_000_000


class StoredPlansError(ValueError):
    """The plans cannot be stored or read; the message says why."""


def store_plans(plans: Sequence[RoutePlan]) -> str:
    """Return plans as JSON, the same text for the same plans in any order. Raises `StoredPlansError`.

    The limit of the whole fleet is left out: it follows from the one per replica and the endpoints.
    """
    routes = [_without_none(_route(plan)) for plan in sorted(plans, key=lambda plan: str(plan.key))]
    body = orjson.dumps({"schema": SCHEMA, "routes": routes}, option=orjson.OPT_SORT_KEYS)
    if len(body) > LARGEST_BYTES:
        raise StoredPlansError(
            f"the plans of {len(routes)} services take {len(body)} bytes, a ConfigMap holds {LARGEST_BYTES}: "
            "use one gateway group per namespace (gateway.scope=namespace)"
        )
    return body.decode()


def read_plans(text: str) -> tuple[RoutePlan, ...]:
    """Return the plans that `store_plans` wrote. Raises `StoredPlansError`."""
    if len(text) > LARGEST_BYTES:
        raise StoredPlansError(f"{len(text)} bytes are more than a ConfigMap holds")
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise StoredPlansError(f"not JSON: {error}") from None
    schema = body.get("schema") if isinstance(body, Mapping) else None
    if schema != SCHEMA:
        raise StoredPlansError(f"schema {schema!r}: this version reads schema {SCHEMA}")
    try:
        return tuple(_plan(each) for each in body["routes"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoredPlansError(f"not the plans of routes: {type(error).__name__}: {error}") from None


def _route(plan: RoutePlan) -> dict[str, Any]:
    fallback, canary = plan.fallback, plan.canary
    return {
        "key": _key(plan.key),
        "uid": plan.uid,
        "backend": _backend(plan.backend),
        "listenPort": plan.listen_port,
        "perReplica": None if plan.per_replica is None else _limit(plan.per_replica),
        "classHeader": plan.class_header,
        "defaultClass": plan.default_class,
        "classes": [
            {"name": each.name, "priority": each.priority, "ratio": each.ratio} for each in plan.classes
        ],
        "fallback": None
        if fallback is None
        else {
            "backend": _backend(fallback.backend),
            "plannedRatio": fallback.planned_ratio,
            "inFlightLimit": fallback.in_flight_limit,
            "service": None if fallback.service is None else _key(fallback.service),
            "classes": list(fallback.classes),
        },
        "canary": None
        if canary is None
        else {
            "backend": _backend(canary.backend),
            "weightPercent": canary.weight_percent,
            "stickyHeader": canary.sticky_header,
            "inFlightLimit": canary.in_flight_limit,
        },
        "retryAfterSeconds": plan.retry_after_seconds,
        "balancedFully": plan.balanced_fully,
        "tlsSecret": plan.tls_secret,
    }


def _key(key: ServiceKey) -> dict[str, str]:
    return {"namespace": key.namespace, "name": key.name}


def _backend(backend: Backend) -> dict[str, Any]:
    return {
        "namespace": backend.namespace,
        "service": backend.service,
        "port": backend.port,
        "servedBy": backend.served_by,
        "portName": backend.port_name,
    }


def _limit(limit: FleetLimit) -> dict[str, int]:
    return {"running": limit.running, "queued": limit.queued}


def _without_none(route: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in route.items() if value is not None}


def _plan(route: Mapping[str, Any]) -> RoutePlan:
    per_replica, fallback, canary = route.get("perReplica"), route.get("fallback"), route.get("canary")
    return RoutePlan(
        key=_read_key(route["key"]),
        uid=str(route["uid"]),
        backend=_read_backend(route["backend"]),
        listen_port=int(route["listenPort"]),
        per_replica=None
        if per_replica is None
        else FleetLimit(int(per_replica["running"]), int(per_replica["queued"])),
        class_header=str(route["classHeader"]),
        default_class=str(route["defaultClass"]),
        classes=tuple(
            ClassShare(str(each["name"]), int(each["priority"]), float(each["ratio"]))
            for each in route["classes"]
        ),
        fallback=None if fallback is None else _read_fallback(fallback),
        canary=None if canary is None else _read_canary(canary),
        retry_after_seconds=int(route["retryAfterSeconds"]),
        balanced_fully=bool(route["balancedFully"]),
        tls_secret=str(route["tlsSecret"]),
    )


def _read_fallback(fallback: Mapping[str, Any]) -> FallbackPlan:
    service = fallback.get("service")
    return FallbackPlan(
        backend=_read_backend(fallback["backend"]),
        planned_ratio=float(fallback["plannedRatio"]),
        in_flight_limit=int(fallback["inFlightLimit"]),
        service=None if service is None else _read_key(service),
        classes=tuple(str(each) for each in fallback["classes"]),
    )


def _read_canary(canary: Mapping[str, Any]) -> CanaryRoute:
    limit = canary.get("inFlightLimit")
    return CanaryRoute(
        backend=_read_backend(canary["backend"]),
        weight_percent=int(canary["weightPercent"]),
        sticky_header=str(canary["stickyHeader"]),
        in_flight_limit=None if limit is None else int(limit),
    )


def _read_key(key: Mapping[str, Any]) -> ServiceKey:
    return ServiceKey(str(key["namespace"]), str(key["name"]))


def _read_backend(backend: Mapping[str, Any]) -> Backend:
    port_name = backend.get("portName")
    return Backend(
        namespace=str(backend["namespace"]),
        service=str(backend["service"]),
        port=int(backend["port"]),
        served_by=str(backend["servedBy"]),
        port_name=None if port_name is None else str(port_name),
    )
