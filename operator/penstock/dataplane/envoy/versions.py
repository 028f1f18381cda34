"""What one proxy is to have, by version: the hash of the content, so that a restarted operator says the same.

A version is asked for by type and name; clusters and listeners are asked for all at once (name "").
Clusters and endpoints that are not wanted any more stay a few seconds: routes that name them go first.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
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


@dataclass(frozen=True, slots=True)
class _Known:
    resource: Mapping[str, Any]
    version: str
    body: bytes


class Catalogue:
    """The versioned resources of one proxy."""

    def __init__(self) -> None:
        # By type URL, then name: at each change all names are gone through.
        self._resources: defaultdict[str, dict[str, _Known]] = defaultdict(dict)
        self._answers: dict[Key, Versioned] = {}
        self._leaves_at: dict[Key, float] = {}
        self._askers: Counter[str] = Counter()  # clusters by the endpoints that they ask for

    def update(self, snapshot: Snapshot, now: float) -> set[Key]:
        """Take in a snapshot; return what is answered differently now. `now` is monotonic."""
        changed: set[Key] = set()
        for kind, resources in snapshot.resources.items():
            all_known = self._resources[kind]
            for name, resource in resources.items():
                known = all_known.get(name)
                if known is not None and known.resource is resource:
                    continue
                # Copied: orjson's own bytes hold on to a buffer of 8 KB for the 1 KB of a resource.
                body = bytes(memoryview(orjson.dumps(resource, option=orjson.OPT_SORT_KEYS)))
                version = hashlib.blake2b(body, digest_size=8).hexdigest()
                all_known[name] = _Known(resource, version, body)
                if known is None or known.version != version:
                    changed.add((kind, name))
        changed |= self._let_go(snapshot, now)
        kinds = {key[0] for key in changed}
        changed |= {(kind, "") for kind in ALL_AT_ONCE if kind in kinds or (kind, "") not in self._answers}
        if CDS in kinds:
            self._askers = Counter(
                known.resource.get("eds_cluster_config", {}).get("service_name")
                for known in self._resources[CDS].values()
            )
        for key in changed:
            self._answers.pop(key, None)
        return changed

    def _let_go(self, snapshot: Snapshot, now: float) -> set[Key]:
        unwanted = {
            (kind, name)
            for kind, all_known in self._resources.items()
            for name in all_known.keys() - snapshot.resources.get(kind, {}).keys()
        }
        for key in self._leaves_at.keys() - unwanted:
            del self._leaves_at[key]
        gone = {
            key
            for key in unwanted
            if key[0] not in _STAYING or now >= self._leaves_at.setdefault(key, now + STAY_SECONDS)
        }
        for kind, name in gone:
            del self._resources[kind][name]
            self._leaves_at.pop((kind, name), None)
        return gone

    @property
    def is_leaving(self) -> bool:
        """Whether something stays that a later `update` is to drop."""
        return bool(self._leaves_at)

    def resource(self, key: Key) -> Mapping[str, Any] | None:
        """Return a resource as it was rendered; None where there is no such."""
        known = self._resources[key[0]].get(key[1])
        return None if known is None else known.resource

    def answer(self, key: Key) -> Versioned | None:
        """Return what to answer; None for what is not there, or is given with all of its type only."""
        kind, name = key
        if name and kind in ALL_AT_ONCE:
            return None
        known = self._answers.get(key)
        if known is None:
            known = self._all_of(kind) if kind in ALL_AT_ONCE else self._one(key)
            if known is not None:
                self._answers[key] = known
        return known

    def askers(self, key: Key) -> int:
        """Return how many parts of a proxy ask this same question, each with a version of its own."""
        if key[0] == EDS:
            return max(1, self._askers[key[1]])
        if key[0] == SDS:
            return max(1, len(self._resources[LDS]))
        return 1

    def askable(self) -> Collection[Key]:
        """Return everything that can be asked for."""
        single = [
            (kind, name)
            for kind, all_known in self._resources.items()
            if kind not in ALL_AT_ONCE
            for name in all_known
        ]
        return single + [(kind, "") for kind in ALL_AT_ONCE]

    def _one(self, key: Key) -> Versioned | None:
        kind, name = key
        found = self._resources[kind].get(name)
        if found is None:
            return None
        return Versioned(found.version, _response(kind, found.version, [found.body]), {name: found.version})

    def _all_of(self, kind: str) -> Versioned:
        items = dict(sorted(self._resources[kind].items()))
        versions = {name: found.version for name, found in items.items()}
        version = hashlib.blake2b(orjson.dumps(versions), digest_size=8).hexdigest()
        return Versioned(
            version, _response(kind, version, [found.body for found in items.values()]), versions
        )


def _response(kind: str, version: str, bodies: list[bytes]) -> bytes:
    head = orjson.dumps({"version_info": version, "type_url": kind})[:-1]
    return head + b',"resources":[' + b",".join(bodies) + b"]}"
