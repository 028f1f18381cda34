"""Proxies as the server knows them: what each was sent, what it took, and what it refused.

REST xDS has no NACK. A proxy that asks with the old version after a new one was sent has lost the answer
or refused the content; it is sent once more, and when it asks with the old version again it refused.
Then nothing is sent until the content changes or half a minute has passed, or it would ask 50 times a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penstock.dataplane.envoy.names import CDS, LDS, RDS
from penstock.dataplane.envoy.versions import Catalogue, Key, Versioned

ONCE_MORE_SECONDS = 0.5
AGAIN_SECONDS = 30.0
# Without an open question for so long a proxy is gone; it asks anew 20 ms after each answer.
GONE_SECONDS = 5.0
_AFTER_CLUSTERS = frozenset({LDS, RDS})


@dataclass(slots=True)
class Subscription:
    """One question that a proxy keeps asking: what was sent last, and what it says it has."""

    sent: Versioned | None = None
    has: str = ""  # version that the proxy says it has
    has_items: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 0  # questions with another version than `sent` since that was sent
    send_again_at: float = 0.0  # monotonic

    @property
    def refused(self) -> bool:
        """Whether the proxy has refused what was sent last."""
        return self.repeats >= 2

    def asked(self, version: str, now: float) -> None:
        """Note a question."""
        self.has = version
        if self.sent is None:
            return
        if version == self.sent.version:
            self.has_items, self.repeats = self.sent.items, 0
            return
        self.repeats += 1
        self.send_again_at = now + (AGAIN_SECONDS if self.refused else ONCE_MORE_SECONDS)

    def may_send(self, answer: Versioned, now: float) -> bool:
        """Whether `answer` is news for the proxy, and worth sending now."""
        if answer.version == self.has:
            return False
        is_same = self.sent is not None and self.sent.version == answer.version
        return not is_same or now >= self.send_again_at

    def send(self, answer: Versioned) -> None:
        """Note an answer."""
        if self.sent is None or self.sent.version != answer.version:
            self.repeats = 0
        self.sent = answer


@dataclass(slots=True)
class Proxy:
    """One Envoy process, by its node id."""

    name: str
    group: str
    host: str
    stats_port: int
    catalogue: Catalogue = field(default_factory=Catalogue)
    subscriptions: dict[Key, Subscription] = field(default_factory=lambda: defaultdict(Subscription))
    open_questions: int = 0
    heard_at: float = field(default_factory=time.monotonic)
    waiting: dict[Key, set[asyncio.Future[None]]] = field(default_factory=lambda: defaultdict(set))

    def is_alive(self, now: float) -> bool:
        """Whether it asks, or asked a moment ago."""
        return self.open_questions > 0 or now - self.heard_at < GONE_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether it has the newest of everything it asks for."""
        if (CDS, "") not in self.subscriptions:
            return False
        for key, subscription in self.subscriptions.items():
            answer = self.catalogue.answer(key)
            if answer is not None and subscription.has != answer.version:
                return False
        return True

    def in_order(self, kind: str) -> bool:
        """Whether a type may be sent now: listeners and routes after the clusters they name."""
        if kind not in _AFTER_CLUSTERS or (CDS, "") not in self.subscriptions:
            return True
        clusters, answer = self.subscriptions[CDS, ""], self.catalogue.answer((CDS, ""))
        return answer is None or clusters.has == answer.version or clusters.refused

    def wake(self, keys: Iterable[Key]) -> None:
        """Let held questions look again."""
        for key in keys:
            for future in self.waiting.pop(key, ()):
                if not future.done():
                    future.set_result(None)

    def wake_after_clusters(self) -> None:
        """Let questions look again that waited for the clusters to arrive."""
        self.wake([key for key in self.waiting if key[0] in _AFTER_CLUSTERS])

    def refused(self) -> list[tuple[str, str]]:
        """Return the (type URL, resource name) that it refuses, as far as that can be told apart."""
        found: list[tuple[str, str]] = []
        for (kind, name), subscription in self.subscriptions.items():
            if not subscription.refused or subscription.sent is None:
                continue
            answer = self.catalogue.answer((kind, name))
            if answer is None or answer.version != subscription.sent.version:
                continue  # what it refused is not asked of it any more
            if name:
                found.append((kind, name))
                continue
            # All at once: those that differ from what it took last.
            items = subscription.sent.items.items()
            found += [(kind, each) for each, version in items if subscription.has_items.get(each) != version]
        return found
