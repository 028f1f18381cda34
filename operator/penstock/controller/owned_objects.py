"""Objects that are ours: applied when they differ from what was applied last, never taken from anybody.

What was applied is remembered as a hash; after a restart, and now and then (somebody may have deleted
one), all are applied again, which the API server makes no write of when nothing changed. An object with
fields that others move later (a Deployment's replicas) has a first body of its own: applied fields that
are left out afterwards would be removed, so that one is created by POST.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog

from penstock.dataplane.envoy.manifests import GROUP_LABEL, is_ours
from penstock.kube.api import Forbidden, KubeError, NotFound, Object, Resource

log = structlog.get_logger(__name__)
Problem = tuple[str, str]  # (reason, message)

RBAC = "rbac.authorization.k8s.io"
RESOURCES = {
    each.kind: each
    for each in (
        Resource("", "v1", "services", "Service"),
        Resource("", "v1", "serviceaccounts", "ServiceAccount"),
        Resource("", "v1", "secrets", "Secret"),
        Resource("", "v1", "configmaps", "ConfigMap"),
        Resource("apps", "v1", "deployments", "Deployment"),
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        Resource(RBAC, "v1", "roles", "Role"),
        Resource(RBAC, "v1", "rolebindings", "RoleBinding"),
    )
}
# 200 groups of 9 objects: 2 calls a second.
REFRESH_SECONDS = 900.0
RETRY_SECONDS = 10.0


class ObjectApi(Protocol):
    """What is asked of the API server for objects of our own. All calls raise `KubeError`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object."""

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        """Return all objects of a type; `namespace` empty means all."""

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create an object."""

    async def apply(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Apply server-side with force."""

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete."""


def not_ours(found: Mapping[str, Any], _wanted: Object) -> str:
    """Return why a found object may not be written, as the end of a sentence; "" where it is ours."""
    if is_ours(found):
        return ""
    owner = (found["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by", "")
    whose = f" (managed by {owner})" if owner else ""
    return f"is not Penstock's{whose}: rename or delete it"


@dataclass(frozen=True, slots=True)
class Purpose:
    """What objects are for: how reasons begin, what helps where RBAC forbids, and whose objects are left.

    `taken` gets the object that exists and the one that is wanted, and returns as `not_ours` does.
    """

    prefix: str
    grant: str
    taken: Callable[[Mapping[str, Any], Object], str] = not_ours


FOR_GATEWAYS = Purpose("Gateway", "install the chart with gateway.enabled=true")


@dataclass(frozen=True, slots=True)
class _Applied:
    digest: int
    at: float
    problem: Problem | None


class OwnedObjects:
    """Applies and deletes; every failure is a (reason, message), never an exception."""

    def __init__(self, kube: ObjectApi, purpose: Purpose = FOR_GATEWAYS) -> None:
        self._kube, self._purpose = kube, purpose
        self._applied: dict[tuple[str, str, str], _Applied] = {}

    async def apply(self, body: Object, now: float, *, first: Object | None = None) -> Problem | None:
        """Apply an object unless it is as applied before. `now` is Unix seconds.

        `first` is created where there is none yet, when that differs from what is applied later.
        """
        address = _address(body)
        digest = zlib.crc32(orjson.dumps(body, option=orjson.OPT_SORT_KEYS))
        known = self._applied.get(address)
        if known is not None and known.digest == digest:
            pause = RETRY_SECONDS if known.problem else _refresh_seconds(address)
            if now - known.at < pause:
                return known.problem
        checked = known is not None and known.problem is None and first is None
        problem = await self._written(body, first, checked=checked)
        if problem is not None and (known is None or known.problem != problem):
            log.warning("not written", object=_named(body), reason=problem[0], message=problem[1])
        self._applied[address] = _Applied(digest, now, problem)
        return problem

    async def remove(self, body: Object) -> Problem | None:
        """Delete an object if it exists and is ours; of gateways, if no other group has taken it over."""
        kind, namespace, name = _address(body)
        resource = RESOURCES[kind]
        self._applied.pop((kind, namespace, name), None)
        try:
            found = await self._kube.get(resource, namespace, name)
            if not self._purpose.taken(found, body) and _group(body) in (None, _group(found)):
                await self._kube.delete(resource, namespace, name)
        except NotFound:
            return None
        except KubeError as error:
            return self._refused(body, error, "deleted")
        return None

    def doubt(self, body: Object, now: float) -> None:
        """Apply an object anew when it is asked for next: the watch does not show it (any more).

        Not what was applied moments ago: the watch may be behind.
        """
        known = self._applied.get(_address(body))
        if known is not None and known.problem is None and now - known.at >= RETRY_SECONDS:
            del self._applied[_address(body)]

    def forget(self) -> None:
        """Apply everything anew when it is asked for next."""
        self._applied.clear()

    async def _written(self, body: Object, first: Object | None, *, checked: bool) -> Problem | None:
        kind, namespace, name = _address(body)
        resource = RESOURCES[kind]
        try:
            found = None if checked else await self._existing(resource, namespace, name)
            if found is not None and (why := self._purpose.taken(found, body)):
                return (f"{self._purpose.prefix}NameTaken", f"{_named(body)} exists and {why}")
            if first is None:
                await self._kube.apply(resource, namespace, name, body)
            elif found is None:
                await self._kube.create(resource, namespace, first)
            else:
                # With its uid: deleted since it was found, the apply is refused and creates nothing.
                identity = body["metadata"] | {"uid": found["metadata"]["uid"]}
                await self._kube.apply(resource, namespace, name, body | {"metadata": identity})
        except KubeError as error:
            return self._refused(body, error, "written")
        return None

    async def _existing(self, resource: Resource, namespace: str, name: str) -> Object | None:
        try:
            return await self._kube.get(resource, namespace, name)
        except NotFound:
            return None

    def _refused(self, body: Object, error: KubeError, done: str) -> Problem:
        """Return what a failed write of one of our objects means for the user."""
        prefix, what = self._purpose.prefix, f"{_named(body)} cannot be {done}: {error.message}"
        if isinstance(error, Forbidden):
            return (f"{prefix}Forbidden", f"{what}; {self._purpose.grant}, or grant it yourself")
        return (f"{prefix}NotWritten", what)


def _address(body: Object) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return body["kind"], metadata["namespace"], metadata["name"]


def _group(body: Mapping[str, Any]) -> str | None:
    """Return whose gateways' an object is: groups of two scopes give theirs the same names."""
    group: str | None = (body["metadata"].get("labels") or {}).get(GROUP_LABEL)
    return group


def _named(body: Object) -> str:
    kind, namespace, name = _address(body)
    return f"{kind} {namespace}/{name}"


def _refresh_seconds(address: tuple[str, str, str]) -> float:
    # Spread, so that a fleet is not applied in one burst every quarter of an hour.
    share = zlib.crc32("/".join(address).encode()) / 2**32
    return REFRESH_SECONDS * (0.5 + share)
