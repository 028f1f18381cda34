"""What one proxy is to have, by version: the hash of the content, so that a restarted operator says the same.

A version is asked for by type and name; clusters and listeners are asked for all at once (name "").
Clusters and endpoints that are not wanted any more stay a few seconds: routes that name them go first.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from penstock.dataplane.envoy.names import CDS, EDS, LDS, SDS
from penstock.dataplane.envoy.snapshot import Snapshot

Key = tuple[str, str]  # type URL, resource name
ALL_AT_ONCE: Final = frozenset({CDS, LDS})
# A route takes 4 ms to a proxy that asks; a proxy that was with its agent asks us again within seconds.
STAY_SECONDS: Final = 5.0
_STAYING: Final = frozenset({CDS, EDS})


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
        self._leaves_at: dict[Key, float] = {}
        self._askers: Counter[str] = Counter()  # clusters by the endpoints that they ask for

    def update(self, snapshot: Snapshot, now: float) -> set[Key]:
        """Take in a snapshot; return what is answered differently now. `now` is monotonic."""
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
        changed |= self._let_go(seen, now)
        kinds = {key[0] for key in changed}
        changed |= {(kind, "") for kind in ALL_AT_ONCE if kind in kinds or (kind, "") not in self._answers}
        if CDS in kinds:
            self._askers = Counter(
                resource.get("eds_cluster_config", {}).get("service_name")
                for (kind, _), (resource, _, _) in self._resources.items()
                if kind == CDS
            )
        for key in changed:
            self._answers.pop(key, None)
        return changed

    def _let_go(self, seen: Collection[Key], now: float) -> set[Key]:
        gone: set[Key] = set()
        for key in self._leaves_at.keys() & seen:
            del self._leaves_at[key]
        for key in self._resources.keys() - seen:
            if key[0] not in _STAYING or now >= self._leaves_at.setdefault(key, now + STAY_SECONDS):
                gone.add(key)
        for key in gone:
            del self._resources[key]
            self._leaves_at.pop(key, None)
        return gone

    @property
    def is_leaving(self) -> bool:
        """Whether something stays that a later `update` is to drop."""
        return bool(self._leaves_at)

    def resource(self, key: Key) -> Mapping[str, Any] | None:
        """Return a resource as it was rendered; None where there is no such."""
        known = self._resources.get(key)
        return None if known is None else known[0]

    def answer(self, key: Key) -> Versioned | None:
        """Return what to answer; None where there is no such resource."""
        known = self._answers.get(key)
        if known is None:
            known = self._all_of(key[0]) if not key[1] and key[0] in ALL_AT_ONCE else self._one(key)
            if known is not None:
                self._answers[key] = known
        return known

    def askers(self, key: Key) -> int:
        """Return how many parts of a proxy ask this same question, each with a version of its own."""
        if key[0] == EDS:
            return max(1, self._askers[key[1]])
        if key[0] == SDS:
            return max(1, sum(kind == LDS for kind, _ in self._resources))
        return 1

    def askable(self) -> Collection[Key]:
        """Return everything that can be asked for."""
        return [key for key in self._resources if key[0] not in ALL_AT_ONCE] + [(k, "") for k in ALL_AT_ONCE]

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
