"""Creating, changing and deleting objects as the API server does it.

`generation` moves with everything but metadata and status; a status subresource keeps spec and status
writes apart; a write that names an old resourceVersion is refused; one that changes nothing is no
write; an object with finalizers is only marked for deletion.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from penstock.sandbox import fake_errors as errors
from penstock.sandbox.fake_patch import Owners, apply
from penstock.sandbox.fake_schema import admitted
from penstock.sandbox.fake_selectors import selector_string
from penstock.sandbox.fake_store import Entry, FakeStore, Key
from penstock.sandbox.fake_types import ResourceType

Clock = Callable[[], float]
Check = Callable[[Mapping[str, Any]], str]  # what is wrong with an object, "" when nothing is
# Set by the server, whatever a write says.
_FIXED_METADATA = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "name", "namespace")


class Writes:
    """Changes to the objects of a store."""

    def __init__(self, store: FakeStore, clock: Clock = time.time) -> None:
        self._store = store
        self._clock = clock
        self._owners: dict[tuple[str, Key], Owners] = {}
        self.checks: dict[tuple[str, str], Check] = {}  # by (group, kind)

    def create(self, kind: ResourceType, namespace: str, body: Mapping[str, Any]) -> Entry:
        """Store a new object."""
        body, metadata = dict(body), dict(body.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        name = metadata.get("name")
        if not name:
            detail = "metadata.name: Required value: name or generateName is required"
            raise errors.invalid(kind.resource.kind, kind.resource.group, "", detail)
        key = (namespace if kind.namespaced else "", name)
        if self._store.get(kind, key) is not None:
            raise errors.already_exists(kind.qualified, name)
        for field in ("resourceVersion", "deletionTimestamp", "namespace"):
            metadata.pop(field, None)
        if kind.namespaced:
            metadata["namespace"] = namespace
        metadata |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": self._now()}
        body |= {"apiVersion": kind.api_version, "kind": kind.resource.kind, "metadata": metadata}
        if kind.has_status:
            body.pop("status", None)
        return self._store.put(kind, key, self._admitted(kind, body))

    def replace(
        self, kind: ResourceType, key: Key, body: Mapping[str, Any], *, subresource: str = ""
    ) -> Entry:
        """Put a whole object in place of the stored one."""
        entry = self.existing(kind, key)
        named = (body.get("metadata") or {}).get("resourceVersion")
        if kind.custom and not named:
            detail = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            raise errors.invalid(kind.resource.kind, kind.resource.group, key[1], detail)
        return self._update(kind, entry, dict(body), subresource)

    def change(
        self,
        kind: ResourceType,
        key: Key,
        edit: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        subresource: str = "",
    ) -> Entry:
        """Patch the stored object by `edit`, which gets a copy of it."""
        entry = self.existing(kind, key)
        return self._update(kind, entry, edit(entry.body()), subresource)

    def apply(
        self,
        kind: ResourceType,
        key: Key,
        body: Mapping[str, Any],
        *,
        manager: str,
        force: bool,
        subresource: str = "",
    ) -> tuple[Entry, bool]:
        """Apply fields server-side; the object is created where there is none (True)."""
        entry = self._store.get(kind, key)
        address = (f"{kind.qualified}/{subresource}", key)
        owners = self._owners.get(address, {}) if entry is not None else {}
        current = None if entry is None else entry.body()
        merged, owned = apply(current, body, owners, manager=manager, force=force)
        if entry is None:
            if subresource:
                raise errors.not_found(kind.qualified, key[1])
            merged["metadata"] = merged.get("metadata", {}) | {"name": key[1]}
            stored = self.create(kind, key[0], merged)
        else:
            stored = self._update(kind, entry, merged, subresource)
        self._owners[address] = owned
        return stored, entry is None

    def delete(self, kind: ResourceType, key: Key) -> Entry:
        """Remove an object, or mark it where finalizers hold it."""
        entry = self.existing(kind, key)
        body = entry.body()
        if body["metadata"].get("finalizers"):
            if "deletionTimestamp" not in body["metadata"]:
                body["metadata"]["deletionTimestamp"] = self._now()
                return self._store.put(kind, key, body)
            return entry
        return self._store.remove(kind, key)

    def scale(self, kind: ResourceType, key: Key) -> dict[str, Any]:
        """Return the ``Scale`` of an object."""
        if kind.scale is None:
            raise errors.no_such_path()
        body = self.existing(kind, key).body()
        metadata = body["metadata"]
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        selector = selector_string(_at(body, kind.scale.selector))
        status = {"replicas": _at(body, kind.scale.current) or 0} | (
            {"selector": selector} if selector else {}
        )
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {name: metadata[name] for name in kept if name in metadata},
            "spec": {"replicas": _at(body, kind.scale.replicas) or 0},
            "status": status,
        }

    def set_scale(self, kind: ResourceType, key: Key, scale: Mapping[str, Any]) -> dict[str, Any]:
        """Set the replicas that a changed ``Scale`` asks for."""
        paths = kind.scale
        if paths is None:
            raise errors.no_such_path()
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            detail = f"spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0"
            raise errors.invalid("Scale", "autoscaling", key[1], detail)

        def edit(body: dict[str, Any]) -> dict[str, Any]:
            at = body
            for part in paths.replicas[:-1]:
                at = at.setdefault(part, {})
            at[paths.replicas[-1]] = replicas
            body["metadata"]["resourceVersion"] = (scale.get("metadata") or {}).get("resourceVersion")
            return body

        self.change(kind, key, edit)
        return self.scale(kind, key)

    def existing(self, kind: ResourceType, key: Key) -> Entry:
        """Return an object. 404 when there is none."""
        entry = self._store.get(kind, key)
        if entry is None:
            raise errors.not_found(kind.qualified, key[1])
        return entry

    def _update(self, kind: ResourceType, entry: Entry, body: dict[str, Any], subresource: str) -> Entry:
        old = entry.body()
        metadata = dict(body.get("metadata") or {})
        named = metadata.get("resourceVersion")
        if named and named != str(entry.version):
            raise errors.stale(kind.qualified, entry.key[1])
        if subresource == "status":
            new = dict(old)
            new.pop("status", None)
            if "status" in body:
                new["status"] = body["status"]
        else:
            new = dict(body)
            if kind.has_status:
                new.pop("status", None)
                if "status" in old:
                    new["status"] = old["status"]
            for field in _FIXED_METADATA:
                metadata.pop(field, None)
                if field in old["metadata"]:
                    metadata[field] = old["metadata"][field]
            new["metadata"] = metadata
            new["apiVersion"], new["kind"] = old["apiVersion"], old["kind"]
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        new = self._admitted(kind, new)
        if _essence(new) != _essence(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if orjson.dumps(new, option=orjson.OPT_SORT_KEYS) == orjson.dumps(old, option=orjson.OPT_SORT_KEYS):
            return entry
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            return self._store.remove(kind, entry.key)
        return self._store.put(kind, entry.key, new)

    def _admitted(self, kind: ResourceType, body: dict[str, Any]) -> dict[str, Any]:
        if kind.schema is not None:
            body = admitted(body, kind.schema)
        elif kind.scale is not None:
            spec = body.setdefault("spec", {})
            spec.setdefault("replicas", 1)
        check = self.checks.get((kind.resource.group, kind.resource.kind))
        if check is not None and (wrong := check(body)):
            raise errors.invalid(kind.resource.kind, kind.resource.group, body["metadata"]["name"], wrong)
        return body

    def _now(self) -> str:
        return datetime.fromtimestamp(int(self._clock()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _essence(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("metadata", "status")}


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        body = body.get(part) if isinstance(body, Mapping) else None
    return body
