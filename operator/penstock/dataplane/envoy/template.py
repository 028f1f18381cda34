"""What gateway pods look like in this cluster: the chart's ``gateway`` values as the operator gets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from penstock.dataplane.envoy.quantity import bytes_of

ENVOY_RESOURCES: Final = {
    # Measured: 30 microseconds of CPU a token; 86 MB at 300 streams with short prompts, and 0.3 MB more for
    # each long prompt and each service. No limit of CPU: throttling a proxy delays every stream through it.
    "requests": {"cpu": "250m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}
# The agent is one Python process: more than a CPU is of no use to it, less would delay its answers.
AGENT_RESOURCES: Final = {
    "requests": {"cpu": "10m", "memory": "96Mi"},
    "limits": {"cpu": "1", "memory": "256Mi"},
}
_LEAST_MEMORY: Final = "64Mi"  # Envoy without a request; less would refuse all of them
USER: Final = 65532
POD_SECURITY_CONTEXT: Final = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
NETWORK_POLICY: Final = {"enabled": False, "from": []}


class TemplateError(ValueError):
    """The template cannot be used; the message names the key."""


@dataclass(frozen=True, slots=True)
class GatewayTemplate:
    """Pods of one gateway group.

    `namespace` is where the pods of a cluster-wide group live, `cluster_domain` how its Services are
    found from other namespaces. `pod` is merged into the pods' spec: nodeSelector, tolerations, ...
    `network_policy` says whether they get one (`enabled`), and who may reach them by it (`from`).
    """

    image: str
    image_pull_policy: str = "IfNotPresent"
    replicas: int = 2
    concurrency: int = 1  # pools and queues are per worker: a second one may let in one request more
    drain_seconds: int = 600  # how long a pod that is told to go waits for its streams
    resources: Mapping[str, Any] = field(default_factory=lambda: ENVOY_RESOURCES)
    agent_resources: Mapping[str, Any] = field(default_factory=lambda: AGENT_RESOURCES)
    pod: Mapping[str, Any] = field(default_factory=dict)
    pod_security_context: Mapping[str, Any] = field(default_factory=lambda: POD_SECURITY_CONTEXT)
    network_policy: Mapping[str, Any] = field(default_factory=lambda: NETWORK_POLICY)
    namespace: str = ""
    cluster_domain: str = "cluster.local"

    @property
    def memory_limit_bytes(self) -> int | None:
        """Of the Envoy container; None: it has none. Raises ValueError when it is none that can be."""
        limits = self.resources.get("limits") or {}
        if not isinstance(limits, Mapping):
            raise ValueError(f"{limits!r} is no mapping")
        if limits.get("memory") is None:
            return None
        found = bytes_of(limits["memory"])
        if found < bytes_of(_LEAST_MEMORY):
            raise ValueError(f"{limits['memory']!r} is below {_LEAST_MEMORY}, with which Envoy starts")
        return found


_KEYS: Final = {
    "image": "image",
    "imagePullPolicy": "image_pull_policy",
    "replicas": "replicas",
    "concurrency": "concurrency",
    "drainSeconds": "drain_seconds",
    "resources": "resources",
    "agentResources": "agent_resources",
    "pod": "pod",
    "podSecurityContext": "pod_security_context",
    "networkPolicy": "network_policy",
    "namespace": "namespace",
    "clusterDomain": "cluster_domain",
}
#: Set by the gateway itself; a template that names them would break what the rest relies on.
_OURS: Final = frozenset({"containers", "volumes", "serviceAccountName", "terminationGracePeriodSeconds"})


def read_template(body: object) -> GatewayTemplate:
    """Return the template that a parsed YAML file holds. Raises `TemplateError`."""
    if not isinstance(body, Mapping):
        raise TemplateError("the gateway template is no mapping: see the chart's value gateway")
    if unknown := sorted(set(body) - set(_KEYS)):
        raise TemplateError(f"unknown key {', '.join(unknown)}: there are {', '.join(_KEYS)}")
    if not body.get("image"):
        raise TemplateError("image: name the gateway image")
    types = {each.name: each.type for each in fields(GatewayTemplate)}
    values: dict[str, Any] = {}
    for key, value in body.items():
        name = _KEYS[key]
        kind = str(types[name])
        right = (
            isinstance(value, int) and not isinstance(value, bool)
            if kind == "int"
            else isinstance(value, str)
            if kind == "str"
            else isinstance(value, Mapping)
        )
        if not right:
            raise TemplateError(f"{key}: {value!r} is no {kind.partition('[')[0]}")
        if kind == "int" and value < 1:
            raise TemplateError(f"{key}: {value} is below 1")
        values[name] = value
    template = GatewayTemplate(**values)
    try:
        _ = template.memory_limit_bytes
    except ValueError as error:
        raise TemplateError(f"resources.limits.memory: {error}") from error
    if set(template.network_policy) != set(NETWORK_POLICY):
        raise TemplateError("networkPolicy: give enabled and from")
    if taken := sorted(_OURS & set(template.pod)):
        raise TemplateError(f"pod.{taken[0]}: set by the gateway itself")
    return template
