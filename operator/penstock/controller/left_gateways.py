"""Gateways that another ``gateway.scope`` left: kept while a Service leads to them, and then removed.

They are known by their Deployments, which stand where this scope puts no such group. Nobody publishes for
them, so their proxies keep what they have until the last of their services is led to the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import structlog

from penstock.controller.owned_objects import RESOURCES, ObjectApi, OwnedObjects
from penstock.dataplane.envoy.gateway_services import FoundService, is_beside_pods
from penstock.dataplane.envoy.manifests import (
    GROUP_LABEL,
    MANAGED_BY,
    GatewayGroupPlan,
    group_objects,
    unwanted_objects,
)
from penstock.kube.api import KubeError, Object

log = structlog.get_logger(__name__)
# Clients' DNS holds the old address for some 30 s, kube-proxy follows within 1 to 5 s.
CLIENTS_SECONDS = 60.0
RETRY_SECONDS = 60.0


@dataclass(slots=True)
class _Left:
    group: GatewayGroupPlan
    due_at: float | None = None  # Unix seconds; None: Services lead there


def removed_objects(group: GatewayGroupPlan) -> list[Object]:
    """Return all that a group may have in the order of deletion: last applied first; Services stay."""
    return [*reversed(group_objects(group)), *unwanted_objects(group)]


class LeftGateways:
    """Remembers where groups of another scope live. `home_of` is where this scope serves a service from."""

    def __init__(
        self, kube: ObjectApi, objects: OwnedObjects, home_of: Callable[[FoundService], str]
    ) -> None:
        self._kube, self._objects, self._home_of = kube, objects, home_of
        self._left: list[_Left] = []

    def add(self, groups: Iterable[GatewayGroupPlan]) -> None:
        """Take in groups that are to go; `namespace` is where each is."""
        self._left += map(_Left, groups)
        if self._left:
            names = [f"{each.group.name} in {each.group.namespace}" for each in self._left]
            log.info("gateways of another scope go when no Service leads to them", groups=names)

    async def remove_unused(self, services: Collection[FoundService], now: float) -> None:
        """Remove the groups that none of `services` leads to since a minute. `now` is Unix seconds."""
        for left in list(self._left):
            if any(self._holds(left.group, each) for each in services):
                left.due_at = None
            elif left.due_at is None:
                left.due_at = now + CLIENTS_SECONDS
            elif now >= left.due_at:
                if await self._removed(left.group):
                    self._left.remove(left)
                left.due_at = now + RETRY_SECONDS

    def _holds(self, group: GatewayGroupPlan, service: FoundService) -> bool:
        # Where both scopes have a group in one namespace, the new one cannot come before the old one goes.
        return (
            service.group == group.name and not service.direct and self._home_of(service) != group.namespace
        )

    async def _removed(self, group: GatewayGroupPlan) -> bool:
        ours = MANAGED_BY | {GROUP_LABEL: group.name}
        selector = ",".join(f"{name}={value}" for name, value in ours.items())
        try:
            found = await self._kube.list(RESOURCES["Service"], group.namespace, label_selector=selector)
        except KubeError as error:
            log.warning("gateways not removed", group=group.name, reason=error.message)
            return False
        beside = [body | {"kind": "Service"} for body in found if is_beside_pods(body)]
        for body in (*beside, *removed_objects(group)):
            if (problem := await self._objects.remove(body)) is not None:
                log.warning("gateways not removed", group=group.name, reason=problem[0], message=problem[1])
                return False
        log.info("gateways of another scope removed", group=group.name, namespace=group.namespace)
        return True
