"""What an operator that starts reads back: which gateways there are, their ports, what they were told last.

All of it is input: with ``gateway.scope: namespace`` it lies where tenants may write, and so do the Services
with the other. Nothing of it reaches beyond the group that may have it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from penstock.controller.gateway_placement import GatewayPlacement
from penstock.controller.owned_objects import RESOURCES, ObjectApi
from penstock.dataplane.envoy.gateway_pod import PLANS, PLANS_FILE
from penstock.dataplane.envoy.gateway_services import FoundService, read_service
from penstock.dataplane.envoy.manifests import GROUP_LABEL, MANAGED_BY
from penstock.dataplane.envoy.ports import repaired_ports
from penstock.dataplane.envoy.stored import StoredPlansError, read_plans
from penstock.kube.api import Forbidden, NotFound, Object
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

log = structlog.get_logger(__name__)
SELECTOR = ",".join((*(f"{name}={value}" for name, value in MANAGED_BY.items()), GROUP_LABEL))


@dataclass(slots=True)
class FoundGroup:
    """What was found of one group: a Service may still lead to gateways of another scope."""

    services: dict[ServiceKey, FoundService] = field(default_factory=dict)
    ports: dict[ServiceKey, int] = field(default_factory=dict)
    plans: tuple[RoutePlan, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftGroup:
    """Gateways where this scope puts none: in `home`, for services in `served_namespaces`."""

    name: str
    home: str
    served_namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """The groups of this scope by name, and those that another left."""

    groups: dict[str, FoundGroup]
    left: tuple[LeftGroup, ...]


async def read_back(kube: ObjectApi, placement: GatewayPlacement) -> Recovered:
    """Return what is in the cluster of gateways. Raises `KubeError`."""
    groups: dict[str, FoundGroup] = defaultdict(FoundGroup)
    served: dict[str, set[str]] = defaultdict(set)
    for namespace in placement.watched or ("",):
        for body in await kube.list(RESOURCES["Service"], namespace, label_selector=SELECTOR):
            found = read_service(body)
            if found is None:
                continue
            name = placement.group_of(found.key)
            groups[name].services[found.key] = found
            served[found.group].add(found.key.namespace)
            if found.listen_port is not None and found.group == name:
                groups[name].ports[found.key] = found.listen_port
    left = []
    for body in await _deployments(kube, placement):
        name, home = body["metadata"]["labels"][GROUP_LABEL], body["metadata"]["namespace"]
        if placement.puts(name, home):
            groups.setdefault(name, FoundGroup())
        else:
            left.append(LeftGroup(name, home, tuple(sorted(served[name]))))
    for name, group in groups.items():
        _settle_ports(name, group, await _stored_plans(kube, placement, name))
    return Recovered(dict(groups), tuple(left))


def _settle_ports(name: str, group: FoundGroup, stored: tuple[RoutePlan, ...]) -> None:
    """Give each service of a group one port, and keep the plans that go by it."""
    # What was stored goes first: a cluster's plans are out of the reach of tenants, who may write their
    # Services. And a Service may have been deleted: its listener is still there.
    told = {plan.key: plan.listen_port for plan in stored}
    claimed, taken = group.ports, frozenset(told.values())
    group.ports = repaired_ports({key: port for key, port in claimed.items() if port not in taken} | told)
    if changed := sorted(str(key) for key, port in claimed.items() if group.ports.get(key) != port):
        log.warning("Services name ports that they cannot have", group=name, services=changed)
    group.plans = tuple(plan for plan in stored if group.ports.get(plan.key) == plan.listen_port)


async def _deployments(kube: ObjectApi, placement: GatewayPlacement) -> list[Object]:
    """List the gateways' Deployments wherever either scope puts them. Raises `KubeError`."""
    served = placement.watched or ("",)
    beside_operator = placement.namespace or placement.template.namespace
    found = []
    for namespace in served if "" in served else sorted({*served, beside_operator} - {""}):
        try:
            found += await kube.list(RESOURCES["Deployment"], namespace, label_selector=SELECTOR)
        except Forbidden as error:
            if placement.namespace or namespace in served:
                raise
            # Only what gateway.scope=cluster left would be there.
            log.info("gateways of another scope cannot be looked for", error=error.message)
    return found


async def _stored_plans(kube: ObjectApi, placement: GatewayPlacement, group: str) -> tuple[RoutePlan, ...]:
    try:
        body = await kube.get(RESOURCES["ConfigMap"], placement.home_of(group), PLANS)
        plans = read_plans(str((body.get("data") or {}).get(PLANS_FILE, "")))
    except NotFound:
        return ()
    except StoredPlansError as error:
        log.warning("what gateways were told before cannot be read", group=group, error=str(error))
        return ()
    ours = tuple(plan for plan in plans if placement.may_have_told(group, plan))
    if foreign := len(plans) - len(ours):
        log.warning("stored plans that the operator cannot have written", group=group, count=foreign)
    return ours
