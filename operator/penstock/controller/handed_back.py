"""A service that is gone keeps its name: its Service then selects what the target's own Service selects."""

from __future__ import annotations

import structlog

from penstock.controller.owned_objects import RESOURCES, ObjectApi, OwnedObjects, Problem
from penstock.dataplane.envoy.gateway_services import (
    FoundService,
    direct_service,
    read_service,
    service_beside_pods,
    service_name,
)
from penstock.kube.api import KubeError, NotFound

log = structlog.get_logger(__name__)


async def hand_back(
    kube: ObjectApi, objects: OwnedObjects, found: FoundService, *, home: str, now: float
) -> tuple[FoundService | None, Problem | None]:
    """Lead a Service past the gateways in `home`; return it as it is now, or what hindered that.

    Neither: its owner deleted it, or nothing is left to serve. `now` is Unix seconds.
    """
    namespace, name = found.key.namespace, service_name(found.key)
    services = RESOURCES["Service"]
    try:
        ours = await kube.get(services, namespace, name)
        behind = await kube.get(services, namespace, found.backend) if found.backend else {}
    except NotFound:
        return None, None
    except KubeError as error:
        return None, ("GatewayNotWritten", f"Service {namespace}/{name}: {error.message}")
    body = direct_service(found, behind, list(ours["spec"].get("ports") or ()))
    if body is None:
        return None, (
            "ServiceNotHandedBack",
            f"Service {namespace}/{name} leads nowhere: {found.backend}, the Service behind it, has no "
            "selector or no such port any more",
        )
    if (problem := await objects.apply(body, now)) is not None:
        return None, problem
    if home != namespace:
        await objects.remove(service_beside_pods(found.key, home))
    log.info("service handed back to its pods", service=str(found.key))
    handed = read_service(body)
    assert handed is not None  # noqa: S101 - it was built from what was read
    return handed, None
