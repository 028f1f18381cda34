"""What the fake API says about itself: groups, versions and resource types, as clients discover them."""

from __future__ import annotations

from typing import Any

from penstock.sandbox.fake_types import ResourceType, TypeRegistry

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.0-penstock-fake", "platform": "linux/amd64"}


def core_versions() -> dict[str, Any]:
    """Return ``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(registry: TypeRegistry) -> dict[str, Any]:
    """Return ``/apis``."""
    groups = [group(name, versions) for name, versions in registry.groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(name: str, versions: list[str]) -> dict[str, Any]:
    """Return ``/apis/<group>``; the version registered first is preferred."""
    named = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": name,
        "versions": named,
        "preferredVersion": named[0],
    }


def resource_list(api_version: str, types: list[ResourceType]) -> dict[str, Any]:
    """Return ``/api/v1`` or ``/apis/<group>/<version>``."""
    resources: list[dict[str, Any]] = []
    for each in types:
        plural, kind = each.resource.plural, each.resource.kind
        entry: dict[str, Any] = {
            "name": plural,
            "singularName": kind.lower(),
            "namespaced": each.namespaced,
            "kind": kind,
            "verbs": _VERBS,
        }
        if each.short_names:
            entry["shortNames"] = list(each.short_names)
        if each.categories:
            entry["categories"] = list(each.categories)
        resources.append(entry)
        common = {"singularName": "", "namespaced": each.namespaced, "verbs": ["get", "patch", "update"]}
        if each.has_status:
            resources.append({"name": f"{plural}/status", "kind": kind} | common)
        if each.scale is not None:
            scale = {"name": f"{plural}/scale", "kind": "Scale", "group": "autoscaling", "version": "v1"}
            resources.append(scale | common)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": resources,
    }
