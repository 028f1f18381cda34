"""The port to the Kubernetes API: eight calls on plain dictionaries, and errors that say what to do.

Only what the control loop needs; watching is kopf's. Adapters enforce time-outs and bounded retries;
an error that reaches the caller is final for this tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource type; `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def base_path(self) -> str:
        """Return ``/api/v1`` or ``/apis/<group>/<version>``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, an object or a subresource."""
        where = f"{self.base_path}/namespaces/{namespace}" if namespace else self.base_path
        return "/".join(part for part in (where, self.plural, name, subresource) if part)


INFERENCE_SERVICES = Resource("serving.penstock.dev", "v1alpha1", "inferenceservices", "InferenceService")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")


class PatchType(StrEnum):
    """Content type of a patch."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Scale:
    """The ``/scale`` subresource: wanted and present replicas, selector as a string."""

    replicas: int
    current: int
    selector: str
    resource_version: str


class KubeError(Exception):
    """A call without the wished result; `message` is what the API server said."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    @property
    def advised(self) -> str:
        """The message, and what a user can do about it where that is known."""
        return self.message


class NotFound(KubeError):  # noqa: N818 - named as the API names them
    """404: the object or its resource type does not exist."""


class Conflict(KubeError):  # noqa: N818
    """409: somebody else was faster, or the object exists already."""


class Forbidden(KubeError):  # noqa: N818
    """401 or 403: the operator lacks a permission; the message names it."""

    @property
    def advised(self) -> str:
        """The message, and who can give the permission."""
        return f"{self.message}; grant it with the chart's RBAC"


class Unprocessable(KubeError):  # noqa: N818
    """400 or 422: the API server refuses the content."""


class Unavailable(KubeError):  # noqa: N818
    """Time-out, no connection, 429 or 5xx after the adapter's retries: try at a later tick."""


class KubeApi(Protocol):
    """What the control loop may ask of the API server. All calls raise `KubeError`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object."""

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        """Return all objects of a type, page by page; `namespace` empty means all."""

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create an object."""

    async def replace(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Replace an object; the body's resourceVersion must be the present one."""

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
        """Patch an object or its subresource under our own field manager."""

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        """Return the scale subresource."""

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        """Set the wanted replicas if the object is still at `resource_version`; else `Conflict`."""

    async def resource_of(self, group: str, kind: str) -> Resource:
        """Find the resource type of a kind by discovery; built-in workloads need no call. Cached."""
