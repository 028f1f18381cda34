"""The arms of an adopted canary: two Services that select the pods of two workloads and no others.

Nothing of the workloads is touched. The Services carry no owner reference: an HTTPRoute may name them, and a
deletion in the middle of a canary must leave the stable arm reachable by the name it has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.controller.cache import FleetCache
from penstock.controller.owned_objects import RESOURCES, ObjectApi, OwnedObjects, Problem, Purpose
from penstock.controller.revision_objects import Arm, arm_service, arm_service_name, taken_by_another
from penstock.controller.workloads import Workload
from penstock.kube.api import KubeError, Object
from penstock.model.spec import Mode, ServiceKey, ServiceSpec, TargetRef
from penstock.policy.modes import weaker

FOR_ARMS = Purpose(
    "Arm", "install the chart with gateway.enabled=true or gatewayAPI.enabled=true", taken_by_another
)
# The ports of a Service move once in its life.
LOOK_EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Front:
    name: str
    body: Object
    read_at: float


def adopted_services(
    spec: ServiceSpec,
    stable: Workload,
    canary: Workload | None,
    front: Mapping[str, Any],
) -> list[Object] | Problem:
    """Return the arms' Services, with the ports of `front`, the Service in front of the target.

    Without a canary only the stable arm's. A problem where the pods of the arms cannot be told apart.
    """
    assert spec.canary is not None  # noqa: S101 - asked only where a canary is adopted
    assert spec.canary.target is not None  # noqa: S101
    ports = _ports(front)
    if not ports:
        name = front["metadata"]["name"]
        return ("CanaryNotRouted", f"Service {name} has no TCP port: give it one, its arms get the same")
    arms: list[tuple[Arm, TargetRef, Workload, Workload | None]] = [(Arm.STABLE, spec.target, stable, canary)]
    if canary is not None:
        arms.append((Arm.CANARY, spec.canary.target, canary, stable))
    services = []
    for arm, target, workload, other in arms:
        if not workload.selector:
            return (
                "ArmsNotSelectable",
                f"{target} selects its pods by matchExpressions only, which a Service cannot: "
                "add a matchLabels of its own",
            )
        if other is not None and workload.selector.items() <= other.pod_labels.items():
            labels = workload.label_selector
            theirs = spec.canary.target if arm is Arm.STABLE else spec.target
            return (
                "ArmsOverlap",
                f"the pods of {theirs} bear all labels by which {target} selects its own ({labels}): "
                f"give the pods of {spec.canary.target} another value of one of them",
            )
        name = arm_service_name(spec.key, arm)
        services.append(arm_service(spec.key, name, workload.selector, ports, arm))
    return services


def _ports(front: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """Return the TCP ports of a Service as another one may have them."""
    return [
        {name: value for name, value in port.items() if name in ("name", "port", "targetPort", "appProtocol")}
        | {"protocol": "TCP"}
        for port in (front.get("spec") or {}).get("ports") or ()
        if port.get("protocol", "TCP") == "TCP"
    ]


class AdoptedArms:
    """Keeps the Services of both arms; what hinders that is a (reason, message), never an exception."""

    def __init__(self, kube: ObjectApi, cache: FleetCache) -> None:
        self._kube, self._cache = kube, cache
        self._objects = OwnedObjects(kube, FOR_ARMS)
        self._fronts: dict[ServiceKey, _Front] = {}

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone; its Services stay."""
        self._fronts.pop(key, None)

    async def ensure(self, spec: ServiceSpec, now: float) -> Problem | None:
        """Keep the arms of a service whose canary has a `targetRef`; `now` in Unix seconds."""
        canary = spec.canary
        if canary is None or canary.target is None or weaker(spec.mode, canary.mode) is not Mode.ENFORCE:
            return None
        namespace = spec.key.namespace
        stable = self._cache.workload(namespace, spec.target)
        names = self._cache.services_in_front(spec)
        if stable is None or len(names) != 1:
            return None  # Accepted says which of them is missing
        try:
            front = await self._front(spec.key, names[0], now)
        except KubeError as error:
            return ("ArmNotWritten", f"Service {namespace}/{names[0]} cannot be read: {error.message}")
        tried = self._cache.workload(namespace, canary.target)
        services = adopted_services(spec, stable, tried, front)
        if isinstance(services, tuple):
            return services
        problem = None
        for body in services:
            if (namespace, body["metadata"]["name"]) not in self._cache.own_services:
                self._objects.doubt(body, now)
            problem = problem or await self._objects.apply(body, now)
        return problem

    async def _front(self, key: ServiceKey, name: str, now: float) -> Object:
        """Return the Service in front of the target, read once a minute. Raises `KubeError`."""
        known = self._fronts.get(key)
        if known is None or known.name != name or now - known.read_at >= LOOK_EVERY_SECONDS:
            body = await self._kube.get(RESOURCES["Service"], key.namespace, name)
            known = self._fronts[key] = _Front(name, body, now)
        return known.body
