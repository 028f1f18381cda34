"""Resource types that the fake API serves: the built-in ones it knows, and those a CRD brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.kube import api
from penstock.kube.api import Resource


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where ``/scale`` finds its numbers; `selector` is a label selector object or a string."""

    replicas: tuple[str, ...] = ("spec", "replicas")
    current: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ("spec", "selector")


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A resource type with what the API server does for it."""

    resource: Resource
    namespaced: bool = True
    has_status: bool = False
    scale: ScalePaths | None = None
    custom: bool = False
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None

    @property
    def qualified(self) -> str:
        """Return how error messages name it: ``deployments.apps``, ``pods``."""
        group = self.resource.group
        return f"{self.resource.plural}.{group}" if group else self.resource.plural

    @property
    def api_version(self) -> str:
        """Return ``apps/v1`` or ``v1``."""
        group, version = self.resource.group, self.resource.version
        return f"{group}/{version}" if group else version


_POD_SCALE = ScalePaths()

BUILT_IN = (
    ResourceType(Resource("", "v1", "namespaces", "Namespace"), namespaced=False, short_names=("ns",)),
    ResourceType(Resource("", "v1", "nodes", "Node"), namespaced=False, has_status=True),
    ResourceType(api.PODS, has_status=True, short_names=("po",)),
    ResourceType(api.SERVICES, has_status=True, short_names=("svc",)),
    ResourceType(Resource("", "v1", "configmaps", "ConfigMap"), short_names=("cm",)),
    ResourceType(Resource("", "v1", "secrets", "Secret")),
    ResourceType(Resource("", "v1", "serviceaccounts", "ServiceAccount"), short_names=("sa",)),
    ResourceType(Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")),
    ResourceType(Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")),
    ResourceType(Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")),
    ResourceType(Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"), has_status=True),
    ResourceType(Resource("", "v1", "events", "Event"), short_names=("ev",)),
    ResourceType(api.DEPLOYMENTS, has_status=True, scale=_POD_SCALE, short_names=("deploy",)),
    ResourceType(api.STATEFUL_SETS, has_status=True, scale=_POD_SCALE, short_names=("sts",)),
    ResourceType(
        Resource("apps", "v1", "replicasets", "ReplicaSet"),
        has_status=True,
        scale=_POD_SCALE,
        short_names=("rs",),
    ),
    ResourceType(api.ENDPOINT_SLICES),
    ResourceType(api.AUTOSCALERS, has_status=True, short_names=("hpa",)),
    ResourceType(api.LEASES),
    ResourceType(api.EVENTS, short_names=("ev",)),
    ResourceType(
        Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
        namespaced=False,
        has_status=True,
        short_names=("crd",),
    ),
)


def types_of_definition(definition: Mapping[str, Any]) -> Iterator[ResourceType]:
    """Yield the resource types that a CustomResourceDefinition brings, one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale")
        yield ResourceType(
            Resource(spec["group"], version["name"], names["plural"], names["kind"]),
            namespaced=spec.get("scope", "Namespaced") == "Namespaced",
            has_status="status" in subresources,
            scale=_scale_paths(scale) if scale else None,
            custom=True,
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
        )


def _scale_paths(scale: Mapping[str, str]) -> ScalePaths:
    def path(name: str) -> tuple[str, ...]:
        return tuple(part for part in scale.get(name, "").split(".") if part)

    return ScalePaths(path("specReplicasPath"), path("statusReplicasPath"), path("labelSelectorPath"))


class TypeRegistry:
    """The types served, by (group, version, plural)."""

    def __init__(self, types: Iterable[ResourceType] = BUILT_IN) -> None:
        self._types: dict[tuple[str, str, str], ResourceType] = {}
        for each in types:
            self.add(each)

    def add(self, added: ResourceType) -> None:
        """Serve a type; one with the same address is replaced."""
        resource = added.resource
        self._types[resource.group, resource.version, resource.plural] = added

    def drop(self, dropped: ResourceType) -> None:
        """Serve a type no longer."""
        resource = dropped.resource
        self._types.pop((resource.group, resource.version, resource.plural), None)

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        """Return the type at an address."""
        return self._types.get((group, version, plural))

    def of(self, resource: Resource) -> ResourceType:
        """Return the type of `resource`. Raises `KeyError` when it is not served."""
        return self._types[resource.group, resource.version, resource.plural]

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of each named group."""
        groups: dict[str, list[str]] = {}
        for group, version, _ in self._types:
            if group and version not in groups.setdefault(group, []):
                groups[group].append(version)
        return groups

    def in_version(self, group: str, version: str) -> list[ResourceType]:
        """Return the types of a group and version."""
        return [each for (g, v, _), each in self._types.items() if (g, v) == (group, version)]
