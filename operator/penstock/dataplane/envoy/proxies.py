"""Proxies as the server knows them: what each is to have and has, and which of its questions are held."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from penstock.dataplane.envoy.names import CDS, EDS, LDS, RDS, RTDS, RUNTIME_LAYERS, runtime_layer
from penstock.dataplane.envoy.snapshot import Snapshot
from penstock.dataplane.envoy.subscriptions import Subscription
from penstock.dataplane.envoy.versions import Catalogue, Key, Versioned

# Neither an open question nor an answer about its statistics for so long: a proxy is gone. It asks anew 20 ms
# after each answer; a lost node leaves its questions open until its connections end (`lost_peers`).
GONE_SECONDS: Final = 5.0
# Limits are shared without a proxy that did not ask anew for so long after it was made to. One whose
# statistics alone are out of reach does so in 20 ms, one that takes in many routes within seconds: they keep
# their parts. One that serves on, cut off from us, adds its equal part (its agent's) to the limit, mostly for
# 40 s: then its node counts as lost, and Services lead there no more. To wait for the end of its connections
# would take the part of each that is lost from all the clients, of two gateways half the limit for 30 s.
LOST_SECONDS: Final = 5.0
# Routes wait no longer for their clusters: one that cannot be had must not hold back the others' limits.
ORDER_SECONDS: Final = 2.0
# More connections are taken by the proxy before the route that lets more in is sent, or this has passed. A
# request that was let in and found none waits in the cluster's queue, and nothing but the next request or the
# end of a stream makes Envoy look again: of 200 limits raised from 1 to 2 beside a long stream, 2 had no
# effect for 10 s, and 1 still when the route came 20 ms later on a busy machine.
RUNTIME_FIRST_SECONDS: Final = 0.25
_AFTER_CLUSTERS: Final = frozenset({LDS, RDS})
_CLUSTERS: Final = (CDS, "")


@dataclass(slots=True)
class Proxy:
    """One Envoy process, by its node id; times are monotonic seconds."""

    name: str
    group: str
    host: str
    stats_port: int
    listen_address: str = ""  # where it binds services' listeners; "": everywhere
    newborn: bool = False  # its first question was without a version: it has served nobody yet
    catalogue: Catalogue = field(default_factory=Catalogue)
    subscriptions: dict[Key, Subscription] = field(default_factory=lambda: defaultdict(Subscription))
    open_questions: int = 0
    seen_at: float = field(default_factory=time.monotonic)  # first
    heard_at: float = field(default_factory=time.monotonic)
    doubted_at: float | None = None  # since when it was asked for a sign of life, and gave none
    _waiting: dict[Key, set[asyncio.Future[None]]] = field(default_factory=lambda: defaultdict(set))
    _behind: set[Key] = field(default_factory=set)  # what it has not taken yet
    _order_until: float = 0.0
    _runtime_first_until: dict[str, float] = field(default_factory=dict)  # by layer

    def give(self, snapshot: Snapshot, now: float) -> None:
        """Let it have what is in `snapshot` from now on; held questions are answered."""
        before = {name: self.catalogue.resource((RTDS, name)) for name in RUNTIME_LAYERS}
        changed = self.catalogue.update(snapshot, now)
        for name, layer in before.items():
            if (RTDS, name) not in changed:
                continue
            raises = _raises(layer, self.catalogue.resource((RTDS, name)))
            self._runtime_first_until[name] = now + RUNTIME_FIRST_SECONDS if raises else 0.0
        for key in changed:
            answer, has = self.catalogue.answer(key), self.subscriptions.get(key)
            if answer is None:
                self._behind.discard(key)
                self.subscriptions.pop(key, None)
            elif has is not None and has.holds(answer.version):
                self._behind.discard(key)
            else:
                self._behind.add(key)
        if _CLUSTERS in changed:
            self._order_until = now + ORDER_SECONDS
        self._wake(changed)

    def asked(self, key: Key, version: str, now: float) -> None:
        """Note a question: it tells what the proxy has."""
        self.heard(now)
        if key == _CLUSTERS and not version and self.subscriptions[key].taken:
            # A proxy that had clusters and has none: another process under the same name.
            self.subscriptions.clear()
            self._behind = {
                each for each in self.catalogue.askable() if self.catalogue.answer(each) is not None
            }
            self._order_until = now + ORDER_SECONDS
        answer = self.catalogue.answer(key)
        if answer is None:
            return  # nothing is kept of what is not to be had
        was_open = self._routes_may_go(now)
        self.subscriptions[key].asked(version, answer)
        if answer.version == version:
            self._behind.discard(key)
        else:
            self._behind.add(key)
        if not was_open and self._routes_may_go(now):
            self._wake([each for each in self._waiting if each[0] in _AFTER_CLUSTERS])
        elif key[0] == RTDS and self.runtime_goes_first(key[1], now):
            self._wake(
                [
                    (kind, name)
                    for kind, name in self._waiting
                    if kind == RDS and runtime_layer(name) == key[1]
                ]
            )

    def answer(self, key: Key, version: str, now: float) -> Versioned | None:
        """Return the answer to a question with `version` and note it as sent; None: it is to wait."""
        answer = self.catalogue.answer(key)
        if answer is None or now < self._held_until(key, now):
            return None
        subscription = self.subscriptions[key]
        if not subscription.may_send(version, answer, askers=self.catalogue.askers(key), now=now):
            return None
        subscription.send(version, answer, now)
        return answer

    async def change(self, key: Key, version: str, until: float, now: float) -> None:
        """Wait until the answer to a question may be another one, at most `until`."""
        held = self._held_until(key, now)
        if now < held:
            until = min(until, held)
        answer, has = self.catalogue.answer(key), self.subscriptions.get(key)
        if has is not None and has.refused and answer is not None and answer.version != version:
            until = min(until, max(now, has.again_at))
        future = asyncio.get_running_loop().create_future()
        self._waiting[key].add(future)
        try:
            await asyncio.wait([future], timeout=max(0.0, until - now))
        finally:
            self._waiting[key].discard(future)

    def heard(self, now: float) -> None:
        """Note a sign of life."""
        self.heard_at, self.doubted_at = now, None

    def doubt(self, now: float) -> None:
        """Ask for a sign of life: what it asked about clusters is answered, whereupon it asks anew."""
        if self.doubted_at is None:
            self.doubted_at = now
        self._wake([_CLUSTERS])

    def is_to_ask_anew(self, key: Key) -> bool:
        """Whether a question that is held is to be answered though nothing has changed."""
        return self.doubted_at is not None and key == _CLUSTERS

    def is_alive(self, now: float) -> bool:
        """Whether it asks, or gave a sign of life a moment ago."""
        return self.open_questions > 0 or now - self.heard_at < GONE_SECONDS

    def is_lost(self, now: float) -> bool:
        """Whether it gave no sign of life when it was asked for one: it may be gone with its node."""
        return self.doubted_at is not None and now - self.doubted_at >= LOST_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether it has said that it has the newest of everything."""
        return not self._behind and _CLUSTERS in self.subscriptions

    def behind(self) -> set[str]:
        """Return the names of the resources of which it has not said that it has the newest."""
        found: set[str] = set()
        for key in self._behind:
            if key[1]:
                found.add(key[1])
                continue
            answer, has = self.catalogue.answer(key), self.subscriptions.get(key)
            taken = {} if has is None else has.taken_items
            if answer is not None:
                found |= {each for each, version in answer.items.items() if taken.get(each) != version}
        return found

    def refused(self) -> list[tuple[str, str]]:
        """Return the (type URL, resource name) that it refuses, as far as that can be told apart."""
        found: list[tuple[str, str]] = []
        for (kind, name), subscription in self.subscriptions.items():
            answer = self.catalogue.answer((kind, name)) if subscription.suspects else None
            if answer is not None:
                found += [(kind, each) for each in subscription.refused_names(answer)]
        return found

    def runtime_goes_first(self, layer: str, now: float) -> bool:
        """Whether routes wait for a layer of the runtime now, rather than it for them."""
        return now < self._runtime_first_until.get(layer, 0.0)

    def _held_until(self, key: Key, now: float) -> float:
        """Return until when an answer waits for others at most."""
        if key[0] in _AFTER_CLUSTERS and not self._routes_may_go(now):
            return self._order_until
        if key[0] == RDS and (RTDS, layer := runtime_layer(key[1])) in self._behind:
            return self._runtime_first_until.get(layer, 0.0)
        return 0.0

    def _routes_may_go(self, now: float) -> bool:
        """Whether the clusters are there that routes and listeners name, with their endpoints."""
        if now >= self._order_until:
            return True
        clusters = self.subscriptions[_CLUSTERS]
        if _CLUSTERS in self._behind and not clusters.refused:
            return False
        return not any(key[0] == EDS and not self.subscriptions[key].taken for key in self._behind)

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(None)


def _raises(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Whether a cluster may make more connections than before; without a key it makes as many as it likes."""
    if before is None or after is None:
        return False
    layer = after["layer"]
    return any(
        name.endswith(".max_connections") and layer.get(name, math.inf) > value
        for name, value in before["layer"].items()
    )
