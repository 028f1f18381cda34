"""What things are called in Envoy: clusters, listeners, statistics, type URLs.

No dots in cluster names: runtime keys and statistics are dotted. Kubernetes names hold no underscore, so
``<namespace>_<name>`` cannot be mistaken for another service's, nor ``_spill_<class>`` for a part of a name.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from penstock.model.spec import ServiceKey
from penstock.model.traffic import RoutePlan

_TYPE: Final = "type.googleapis.com/envoy."
EXTENSION: Final = _TYPE + "extensions."
CDS: Final = _TYPE + "config.cluster.v3.Cluster"
LDS: Final = _TYPE + "config.listener.v3.Listener"
RDS: Final = _TYPE + "config.route.v3.RouteConfiguration"
EDS: Final = _TYPE + "config.endpoint.v3.ClusterLoadAssignment"
RTDS: Final = _TYPE + "service.runtime.v3.Runtime"
SDS: Final = _TYPE + "extensions.transport_sockets.tls.v3.Secret"

#: Type URL by the last part of the path that Envoy posts to: ``/v3/discovery:<resources>``.
DISCOVERY: Final = {
    "clusters": CDS,
    "listeners": LDS,
    "routes": RDS,
    "endpoints": EDS,
    "runtime": RTDS,
    "secrets": SDS,
}
#: What must be in a proxy before what refers to it is sent.
ORDER: Final = (CDS, EDS, SDS, LDS, RTDS, RDS)

# RTDS resources of a group, each of some services: Envoy reads a resource whole when a number in it moves.
RUNTIME_LAYERS: Final = tuple(f"penstock-{number}" for number in range(8))
XDS_CLUSTER: Final = "xds"  # of the bootstrap: the operator, then the agent
XDS_HEALTH_PATH: Final = "/healthz"  # the proxies ask it of the operator and of the agent
METADATA: Final = "penstock"  # namespace of our metadata in clusters and routes
UNCLASSED: Final = "default"  # the one class of services that define none

SERVED_BY: Final = "x-penstock-served-by"
REASON: Final = "x-penstock-reason"
OPT_OUT: Final = "x-penstock-fallback"  # `never`: rather a 429 than another model

# Values of `x-penstock-reason`: why this one answered.
REASON_PRIMARY: Final = "primary"
REASON_CANARY: Final = "canary"  # the canary, because the split drew it
REASON_OVERLOAD: Final = "overload"  # the fallback, because the primary is at its limit or will be
REASON_ERROR: Final = "error"  # the fallback, because the primary failed before the first byte
REASON_SHED: Final = "shed"  # nobody: 429
REASON_UNAVAILABLE: Final = "unavailable"  # nobody: no endpoint, or none that answers
NOBODY: Final = "-"  # `x-penstock-served-by` when no model served; no Kubernetes name is a dash


def cluster_name(key: ServiceKey) -> str:
    """Return the cluster of a service's own pool; also its listener's and its route's name."""
    return f"{key.namespace}_{key.name}"


def runtime_layer(cluster: str) -> str:
    """Return the RTDS resource with the limits of a service, by `cluster_name`."""
    return RUNTIME_LAYERS[crc32(cluster.encode()) % len(RUNTIME_LAYERS)]


def spill_cluster(key: ServiceKey, request_class: str) -> str:
    """Return the cluster that carries a class's overload to the fallback."""
    return f"{cluster_name(key)}_spill_{request_class}"


def rescue_cluster(key: ServiceKey) -> str:
    """Return the cluster that carries what the primary failed to the fallback."""
    return f"{cluster_name(key)}_rescue"


def any_cluster(key: ServiceKey) -> str:
    """Return the composite of primary and rescue: first the one, on failure the other."""
    return f"{cluster_name(key)}_any"


def canary_cluster(key: ServiceKey) -> str:
    """Return the cluster of the canary's pods."""
    return f"{cluster_name(key)}_canary"


def arm_clusters(plan: RoutePlan) -> tuple[str, ...]:
    """Return the clusters of a service's own pods: the stable arm's, and the canary's where there is one."""
    stable = cluster_name(plan.key)
    return (stable,) if plan.canary is None else (stable, canary_cluster(plan.key))


def canary_any_cluster(key: ServiceKey) -> str:
    """Return the composite of canary and primary: first the one, on failure the other."""
    return f"{canary_cluster(key)}_any"


def canary_served_by(plan: RoutePlan) -> str:
    """Return what clients are told of the canary: the model's name, and that this was the canary."""
    told = plan.backend if plan.canary is None else plan.canary.backend
    return f"{told.served_by}@canary"


def service_of(resource: str) -> ServiceKey | None:
    """Return the service whose cluster, endpoints or route bear this name; None for another name."""
    namespace, mark, rest = resource.partition("_")
    return ServiceKey(namespace, rest.partition("_")[0]) if mark else None


def shed_cluster(key: ServiceKey, request_class: str) -> str:
    """Return the cluster that has no endpoints ever: its counters are the class's 429."""
    return f"{cluster_name(key)}_shed_{request_class}"


def secret_name(namespace: str, secret: str) -> str:
    """Return the SDS resource of a TLS Secret that the gateway pods mount."""
    return f"{namespace}_{secret}"


def request_classes(plan: RoutePlan) -> tuple[str, ...]:
    """Return the names of a plan's classes: `UNCLASSED` alone where it defines none."""
    return tuple(share.name for share in plan.classes) or (UNCLASSED,)


def default_class(plan: RoutePlan) -> str:
    """Return the class of requests that name none: the plan's, else the one of least priority."""
    if not plan.classes:
        return UNCLASSED
    if plan.default_class in request_classes(plan):
        return plan.default_class
    return min(plan.classes, key=lambda share: share.priority).name


def classes_that_may_spill(plan: RoutePlan) -> tuple[str, ...]:
    """Return the classes whose excess may go to the fallback, in the plan's order."""
    if plan.fallback is None:
        return ()
    allowed = plan.fallback.classes
    return tuple(name for name in request_classes(plan) if not allowed or name in allowed)


def offered_stat(plan: RoutePlan, request_class: str) -> str:
    """Return the counter of a class's requests as they arrive, whatever becomes of them."""
    manager = f"http.{cluster_name(plan.key)}"
    if not plan.classes:
        return f"{manager}.downstream_rq_total"
    return f"{manager}.rbac.policy.{request_class}.shadow_allowed"


def shed_stat(key: ServiceKey, request_class: str) -> str:
    """Return the counter of a class's 429."""
    return f"cluster.{shed_cluster(key, request_class)}.upstream_cx_none_healthy"


def spilled_stat(key: ServiceKey, request_class: str) -> str:
    """Return the counter of a class's requests sent to the fallback for overload; rescues are not in it."""
    return f"cluster.{spill_cluster(key, request_class)}.upstream_rq_total"


def clusters_into_fallback(plan: RoutePlan) -> tuple[str, ...]:
    """Return the clusters by which this service sends into its fallback's pool."""
    if plan.fallback is None:
        return ()
    spills = (spill_cluster(plan.key, name) for name in classes_that_may_spill(plan))
    return (*spills, rescue_cluster(plan.key))
