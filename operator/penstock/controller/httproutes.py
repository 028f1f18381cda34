"""Set the weights of users' HTTPRoutes: looked at, validated by a dry run, patched; never fought over.

A route that moved between look and patch is looked at once more. Weights that somebody sets back again
and again are left to him, with a condition that names him: two controllers would make traffic swing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from penstock.dataplane.gatewayapi.ownership import OURS, last_writer
from penstock.dataplane.gatewayapi.weights import Refusal, weight_patch
from penstock.kube.api import KubeError, NotFound, Object, PatchType, Resource, Unprocessable
from penstock.model.spec import HttpRouteRef, ServiceKey

log = structlog.get_logger(__name__)
Problem = tuple[str, str]  # (reason, message)

GROUP, KIND = "gateway.networking.k8s.io", "HTTPRoute"
# Two could be a redeployment and its retry; a GitOps tool that heals is back within minutes each time.
CONTESTED_TIMES = 3
CONTESTED_SECONDS = 900.0


class RouteApi(Protocol):
    """What is asked of the API server for routes. All calls raise `KubeError`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object."""

    async def validate(
        self, resource: Resource, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Object:
        """Return what a JSON Patch would make of an object, by a dry run."""

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: object,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Object:
        """Patch an object."""

    async def resource_of(self, group: str, kind: str) -> Resource:
        """Find the resource type of a kind by discovery."""


@dataclass(slots=True)
class _Known:
    written: Mapping[str, int] | None = None
    set_back_at: list[float] = field(default_factory=list)
    set_back_by: str = ""


class HttpRoutes:
    """Writes weights and remembers who set them back; a failure is a (reason, message)."""

    def __init__(self, kube: RouteApi) -> None:
        self._kube = kube
        self._known: dict[ServiceKey, _Known] = {}

    async def set_weights(
        self, key: ServiceKey, ref: HttpRouteRef, weights: Mapping[str, int], *, primary: str, now: float
    ) -> Problem | None:
        """Give a rule its weights by Service; `now` in Unix seconds."""
        known = self._known.setdefault(key, _Known())
        name = f"HTTPRoute {key.namespace}/{ref.name}"
        try:
            resource = await self._kube.resource_of(GROUP, KIND)
        except NotFound:
            return (
                "GatewayAPIMissing",
                "the cluster serves no HTTPRoute: install the Gateway API v1.2 or later",
            )
        except KubeError as error:
            return ("RouteNotWritten", f"{name} cannot be found: {error.message}")
        try:
            for _ in range(2):
                route = await self._kube.get(resource, key.namespace, ref.name)
                patch = weight_patch(route, ref.rule, weights, primary=primary)
                if isinstance(patch, Refusal):
                    known.written = None
                    return (patch.reason, patch.message)
                contested = self._contested(known, patch.before, route, name, now)
                if contested is not None or not patch.changed:
                    return contested
                if await self._written(resource, route, patch.operations):
                    known.written = dict(weights)
                    log.info(
                        "weights set",
                        route=f"{key.namespace}/{ref.name}",
                        rule=ref.rule,
                        weights=dict(weights),
                    )
                    return None
        except NotFound:
            return (
                "RouteNotFound",
                f"{name} does not exist: create it, or correct routing.gatewayAPI.httpRouteRef",
            )
        except KubeError as error:
            return ("RouteNotWritten", f"{name} cannot be patched: {error.advised}")
        return None  # it moves faster than we look: the next tick tries again

    async def wrote_last(self, key: ServiceKey, ref: HttpRouteRef) -> bool:
        """Whether a route's rules were last written by us, also before a restart. Raises `KubeError`."""
        try:
            resource = await self._kube.resource_of(GROUP, KIND)
            return last_writer(await self._kube.get(resource, key.namespace, ref.name)) == OURS
        except NotFound:
            return False

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone."""
        self._known.pop(key, None)

    async def _written(
        self, resource: Resource, route: Object, operations: Sequence[Mapping[str, Any]]
    ) -> bool:
        """Validate and patch; False when the route has moved since it was looked at."""
        metadata = route["metadata"]
        place = (resource, metadata["namespace"], metadata["name"])
        try:
            await self._kube.validate(*place, operations)
            await self._kube.patch(*place, list(operations), patch_type=PatchType.JSON)
        except Unprocessable:
            # The answer to a failed test and to refused content is the same status; the version tells.
            current = await self._kube.get(*place)
            if current["metadata"]["resourceVersion"] == metadata["resourceVersion"]:
                raise
            return False
        return True

    def _contested(
        self, known: _Known, before: Mapping[str, int], route: Object, name: str, now: float
    ) -> Problem | None:
        if known.written is not None and any(known.written.get(each, 0) != before[each] for each in before):
            known.set_back_at.append(now)
            writer = last_writer(route)
            known.set_back_by = "somebody" if writer in ("", OURS) else writer
            known.written = dict(before)  # counted once, whether or not it is written again
        known.set_back_at = [at for at in known.set_back_at if now - at < CONTESTED_SECONDS]
        if len(known.set_back_at) < CONTESTED_TIMES:
            return None
        return (
            "RouteContested",
            f"{name}: {known.set_back_by} has changed the weights {len(known.set_back_at)} times within "
            f"{CONTESTED_SECONDS / 60:.0f} min: let it ignore spec.rules[].backendRefs[].weight",
        )
