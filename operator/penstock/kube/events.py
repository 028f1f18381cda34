"""Events (events.k8s.io/v1) about the objects users look at; ``kubectl describe`` shows them.

An Event is a courtesy: its loss is logged, never raised. The same (uid, reason, note) is written
once in 10 min, since every Event is a write to etcd that is kept for an hour. Names are unique, so
a repetition is a new object and not a series: its count would need a read before each write.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from penstock.kube.api import EVENTS, KubeApi, KubeError
from penstock.kube.micro_time import micro_time, utc_now

log = structlog.get_logger(__name__)
QUIET_SECONDS = 600.0
# 10,000 services with a handful of reasons each; about 4 MB when full.
REMEMBERED = 20_000
# Limits of the API server's validation; the note's is in bytes.
NOTE_BYTES = 1024
FIELD_CHARACTERS = 128
NAME_CHARACTERS = 253


class EventType(StrEnum):
    """The two types Kubernetes knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """The object an Event is about; `namespace` is empty for one that is in none."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class EventRecorder:
    """Writes Events as `component`; `instance` names this replica, such as its pod's name."""

    def __init__(
        self,
        api: KubeApi,
        *,
        instance: str,
        component: str = "penstock",
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if not instance:
            raise ValueError("an Event names the replica that reports it: give the pod's name")
        self._api = api
        self._component = component
        self._instance = instance[:FIELD_CHARACTERS]
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._recent: OrderedDict[Hashable, float] = OrderedDict()

    async def record(
        self,
        about: ObjectReference,
        event_type: EventType | str,
        *,
        reason: str,
        message: str,
        action: str,
    ) -> bool:
        """Write an Event unless the same one was written in the last 10 min; say whether it was.

        `reason` and `action` are CamelCase words; `message` is cut to 1 kB. ValueError for an empty
        `reason` or `action` and for an unknown type: those are mistakes in the program.
        """
        kind = EventType(event_type)
        if not reason or not action:
            raise ValueError(f"an Event needs a reason and an action; got {reason!r} and {action!r}")
        note = _cut(message, NOTE_BYTES)
        key = (about.uid, reason, note)
        # Noted before the call: two tasks with the same Event must not both write it.
        if not self._is_news(key):
            return False
        namespace = about.namespace or "default"
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": _unique_name(about.name)},
            "eventTime": micro_time(self._wall_clock()),
            "type": kind.value,
            "reason": reason[:FIELD_CHARACTERS],
            "action": action[:FIELD_CHARACTERS],
            "note": note,
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        try:
            await self._api.create(EVENTS, namespace, body)
        except KubeError as error:
            self._recent.pop(key, None)
            if self._is_news(("failed", namespace, type(error).__name__)):
                log.warning("event not written", namespace=namespace, reason=reason, problem=error.message)
            return False
        return True

    def _is_news(self, key: Hashable) -> bool:
        """Note `key`; False if it was noted less than 10 min ago."""
        now = self._monotonic()
        while self._recent and next(iter(self._recent.values())) <= now - QUIET_SECONDS:
            self._recent.popitem(last=False)
        if key in self._recent:
            return False
        self._recent[key] = now
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        return True


def _cut(text: str, limit_bytes: int) -> str:
    """Cut `text` to so many bytes of UTF-8 without splitting a character."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode("utf-8")
    mark = "…"
    return encoded[: limit_bytes - len(mark.encode())].decode("utf-8", "ignore") + mark


def _unique_name(about_name: str) -> str:
    """Return the object's name, cut so that the whole is a DNS subdomain, and 64 random bits."""
    suffix = secrets.token_hex(8)
    return f"{about_name[: NAME_CHARACTERS - len(suffix) - 1].rstrip('.-')}.{suffix}"
