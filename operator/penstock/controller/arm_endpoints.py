"""Where the two arms of a service are: workloads, Services, endpoints that get requests, requests in flight.

Owned: `target` of the spec is the stable revision's Deployment, and a pod bears its Deployment's name. A
Service that has just been led to another revision shows the old one's pods for a second: they count for
nobody. Adopted: each arm's Service selects what its workload selects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.controller.cache import FleetCache
from penstock.controller.canary_state import CanaryState
from penstock.controller.endpoints import EndpointCache
from penstock.controller.gateway_state import GatewayState
from penstock.controller.revision_objects import Arm, arm_service_name
from penstock.controller.workloads import Workload
from penstock.model.observation import Pool
from penstock.model.references import is_service
from penstock.model.revision import owned_target
from penstock.model.spec import RoutingType, ServiceSpec, TargetRef, WorkloadType
from penstock.model.traffic import Backend, Endpoint, GatewayReading
from penstock.policy.gateway_load import STALE_SECONDS


@dataclass(frozen=True, slots=True)
class ArmsSeen:
    """Names of the pods that get requests, by arm; `mixed`: an arm's Service shows another revision's."""

    stable: frozenset[str]
    canary: frozenset[str]
    mixed: bool = False


def canary_target(spec: ServiceSpec, revision: str) -> TargetRef | None:
    """Return the workload of the canary; None where there is none."""
    if spec.workload_type is WorkloadType.TEMPLATE:
        return owned_target(spec.key.name, revision) if revision else None
    return spec.canary.target if spec.canary is not None else None


def workload_of(cache: FleetCache, spec: ServiceSpec, target: TargetRef | None) -> Workload | None:
    """Return a workload as the watch shows it."""
    return None if target is None else cache.workload(spec.key.namespace, target)


def canary_pool(cache: FleetCache, spec: ServiceSpec, state: CanaryState, revision: str) -> Pool | None:
    """Return the canary's pool; what we wrote counts until the watch has caught up."""
    target = canary_target(spec, revision)
    workload = workload_of(cache, spec, target)
    return None if workload is None or target is None else workload.pool_since(state, target)


def scaled_by_another(cache: FleetCache, spec: ServiceSpec, target: TargetRef) -> str:
    """Return who else scales the canary's workload, and what to do about it; "" where nobody does."""
    holder = cache.conflict(spec.key, target)
    if not holder:
        return ""
    advice = "delete it, the canary's replicas follow its share"
    if is_service(holder):
        advice = "name another workload in canary.targetRef"
    return f"{holder} scales {target}: {advice}"


def stable_backend(spec: ServiceSpec, front: Backend, endpoints: EndpointCache) -> Backend:
    """Return the Service of the stable arm: for an adopted canary one of ours, once it has all the pods.

    The Service in front of the target may select the canary's pods as well.
    """
    if spec.canary is None or spec.canary.target is None:
        return front
    service = arm_service_name(spec.key, Arm.STABLE)
    there = _serving(endpoints.of(front.namespace, service, front.port))
    behind = _serving(endpoints.of(front.namespace, front.service, front.port))
    # By name, because slices of several Services do not move at once: back at the Service in front for that
    # moment, a canary that has just become ready would get requests before its time.
    theirs = f"{spec.canary.target.name}-"
    if not there or not all(pod in there or pod.startswith(theirs) for pod in behind):
        return front
    return replace(front, service=service)


def canary_backend(spec: ServiceSpec, stable: Backend, endpoints: EndpointCache) -> Backend | None:
    """Return the Service of the canary's arm; None while it does not exist."""
    service = arm_service_name(spec.key, Arm.CANARY)
    ports = endpoints.ports(stable.namespace, service)
    if not ports:
        return None
    port = stable.port if stable.port in ports else ports[0]
    named = endpoints.port_name(stable.namespace, service, port)
    return Backend(stable.namespace, service, port, stable.served_by, named)


def arms_of(
    spec: ServiceSpec, stable: Sequence[Endpoint], canary: Sequence[Endpoint], revision: str
) -> ArmsSeen:
    """Return who gets requests behind the two Services, counted by revision where they are ours."""
    ours, theirs = _serving(stable), _serving(canary)
    if spec.workload_type is not WorkloadType.TEMPLATE:
        return ArmsSeen(ours, theirs - ours)
    of_stable = _named(ours, spec.target)
    of_canary = _named(theirs, canary_target(spec, revision))
    return ArmsSeen(of_stable, of_canary, mixed=len(of_stable) < len(ours) or len(of_canary) < len(theirs))


def ready_counts(
    spec: ServiceSpec, arms: ArmsSeen | None, stable: Pool | None, canary: Pool | None
) -> tuple[int, int]:
    """Return (stable, canary) replicas that get requests; without a router those that are ready."""
    if arms is None or spec.routing.type is RoutingType.NONE:
        return (stable.ready if stable else 0, canary.ready if canary else 0)
    return len(arms.stable), len(arms.canary)


def in_flight(gateway: GatewayState, now: float) -> tuple[float | None, float | None]:
    """Return the requests in flight on (stable, canary); None where a gateway is silent."""
    readings = gateway.memory.readings
    latest: GatewayReading | None = readings[-1] if readings else None
    if latest is None or now - latest.at > STALE_SECONDS or latest.proxies < gateway.proxies:
        return None, None
    stable, canary = latest.stable_arm, latest.canary_arm
    return (
        None if stable is None else stable.in_flight,
        None if canary is None else canary.in_flight,
    )


def _serving(endpoints: Sequence[Endpoint]) -> frozenset[str]:
    return frozenset(each.pod for each in endpoints if each.serving)


def _named(pods: frozenset[str], target: TargetRef | None) -> frozenset[str]:
    if target is None:
        return frozenset()
    return frozenset(pod for pod in pods if pod.startswith(f"{target.name}-"))
