"""What one proxy is to have, by version: the hash of the content, so that a restarted operator says the same.

A version is asked for by type and name; clusters and listeners are asked for all at once (name "").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from penstock.dataplane.envoy.names import CDS, LDS
from penstock.dataplane.envoy.snapshot import Snapshot

Key = tuple[str, str]  # type URL, resource name
ALL_AT_ONCE = frozenset({CDS, LDS})


@dataclass(frozen=True, slots=True)
class Versioned:
    """Resources of one answer: version, JSON, and the version of each by name."""

    version: str
    body: bytes
    items: Mapping[str, str]


class Catalogue:
    """The versioned resources of one proxy."""

    def __init__(self) -> None:
        self._resources: dict[Key, tuple[Mapping[str, Any], str, bytes]] = {}
        self._answers: dict[Key, Versioned] = {}

    def update(self, snapshot: Snapshot) -> set[Key]:
        """Take in a snapshot; return what is answered differently now."""
        changed: set[Key] = set()
        seen: set[Key] = set()
        for kind, resources in snapshot.resources.items():
            for name, resource in resources.items():
                key = (kind, name)
                seen.add(key)
                known = self._resources.get(key)
                if known is not None and known[0] is resource:
                    continue
                body = orjson.dumps(resource, option=orjson.OPT_SORT_KEYS)
                version = hashlib.blake2b(body, digest_size=8).hexdigest()
                self._resources[key] = resource, version, body
                if known is None or known[1] != version:
                    changed.add(key)
        for key in self._resources.keys() - seen:
            del self._resources[key]
            changed.add(key)
        for kind in ALL_AT_ONCE:
            if any(key[0] == kind for key in changed) or (kind, "") not in self._answers:
                changed.add((kind, ""))
        for key in changed:
            self._answers.pop(key, None)
        return changed

    def answer(self, key: Key) -> Versioned | None:
        """Return what to answer; None where there is no such resource."""
        known = self._answers.get(key)
        if known is None:
            known = self._all_of(key[0]) if not key[1] and key[0] in ALL_AT_ONCE else self._one(key)
            if known is not None:
                self._answers[key] = known
        return known

    def _one(self, key: Key) -> Versioned | None:
        found = self._resources.get(key)
        if found is None:
            return None
        _, version, body = found
        return Versioned(version, _response(key[0], version, [body]), {key[1]: version})

    def _all_of(self, kind: str) -> Versioned:
        items = {name: found for (each, name), found in sorted(self._resources.items()) if each == kind}
        versions = {name: found[1] for name, found in items.items()}
        version = hashlib.blake2b(orjson.dumps(versions), digest_size=8).hexdigest()
        return Versioned(version, _response(kind, version, [found[2] for found in items.values()]), versions)


def _response(kind: str, version: str, bodies: list[bytes]) -> bytes:
    head = orjson.dumps({"version_info": version, "type_url": kind})[:-1]
    return head + b',"resources":[' + b",".join(bodies) + b"]}"
