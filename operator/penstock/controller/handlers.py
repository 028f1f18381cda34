"""kopf, and all of it: watch, and put what is seen into the cache.

Only `on.event`: no timers, daemons, indexes, finalizers or return values (timers cost four times the
CPU, indexes are quadratic at start, finalizers block deletion while the operator is down, a returned
value is written to status).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from penstock.controller.cache import FleetCache
from penstock.controller.endpoints import EndpointCache
from penstock.controller.feed import Feed
from penstock.controller.garbage import collect_after
from penstock.controller.watch_settings import configure
from penstock.kube.api import (
    AUTOSCALERS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    INFERENCE_SERVICES,
    SCALED_OBJECTS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)

PREFIX = "serving.penstock.dev"


@dataclass(slots=True)
class WatchMarks:
    """When each type was last heard of, on the monotonic clock; and how many events there were."""

    heard_at: dict[str, float] = field(default_factory=dict)
    events: int = 0


def feeds(
    cache: FleetCache, *, pods_identify: bool, has_keda: bool, endpoints: EndpointCache | None = None
) -> list[Feed]:
    """Return the watched types. EndpointSlices only where they join pods, or gateways need addresses.

    Without KEDA its type would only make kopf warn; installed later, it is seen after a restart.
    """
    found = [
        Feed(INFERENCE_SERVICES, cache.see_service, cache.forget_service),
        _both(SERVICES, cache.see_cluster_service, cache.forget_cluster_service, endpoints),
    ]
    found += [_workload_feed(cache, resource) for resource in (DEPLOYMENTS, STATEFUL_SETS)]
    found.append(_autoscaler_feed(cache, AUTOSCALERS))
    if has_keda:
        found.append(_autoscaler_feed(cache, SCALED_OBJECTS))
    if pods_identify:
        found.append(_both(ENDPOINT_SLICES, cache.see_slice, cache.forget_slice, endpoints))
    elif endpoints is not None:
        found.append(Feed(ENDPOINT_SLICES, endpoints.see, endpoints.forget))
    return found


def _both(
    resource: Resource,
    see: Callable[[Mapping[str, Any]], None],
    forget: Callable[[str, str], None],
    endpoints: EndpointCache | None,
) -> Feed:
    """Return a feed into the cache and, where gateways need them, into the endpoints."""
    if endpoints is None:
        return Feed(resource, see, forget)
    is_slice = resource is ENDPOINT_SLICES
    also_see = endpoints.see if is_slice else endpoints.see_service
    also_forget = endpoints.forget if is_slice else endpoints.forget_service

    def see_both(body: Mapping[str, Any]) -> None:
        see(body)
        also_see(body)

    def forget_both(namespace: str, name: str) -> None:
        forget(namespace, name)
        also_forget(namespace, name)

    return Feed(resource, see_both, forget_both)


def _workload_feed(cache: FleetCache, resource: Resource) -> Feed:
    kind = resource.kind
    return Feed(
        resource,
        lambda body: cache.see_workload(kind, body),
        lambda namespace, name: cache.forget_workload(kind, namespace, name),
    )


def _autoscaler_feed(cache: FleetCache, resource: Resource) -> Feed:
    kind = resource.kind
    return Feed(
        resource,
        lambda body: cache.see_autoscaler(kind, body),
        lambda namespace, name: cache.forget_autoscaler(kind, namespace, name),
    )


def build_registry(watched: list[Feed], marks: WatchMarks) -> kopf.OperatorRegistry:
    """Return a registry with one event handler per type."""
    registry = kopf.OperatorRegistry()
    kopf.on.startup(registry=registry)(configure)
    kopf.on.login(registry=registry)(_login)
    for feed in watched:
        resource = feed.resource
        handler = _handler(feed, marks)
        kopf.on.event(
            resource.group, resource.version, resource.plural, registry=registry, id=f"see-{resource.plural}"
        )(handler)
    return registry


def _handler(feed: Feed, marks: WatchMarks) -> Callable[..., Any]:
    async def see(event: Mapping[str, Any], **_: object) -> None:
        marks.heard_at[feed.resource.plural] = time.monotonic()
        body = event["object"]
        if event["type"] == "DELETED":
            feed.forget(body)
        else:
            feed.see(body)
        marks.events += 1
        collect_after(marks.events)

    return see


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in without loading the Kubernetes client a second time."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
