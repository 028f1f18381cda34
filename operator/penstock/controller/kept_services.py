"""Services that stay with the gateways when their service is gone, because their clients speak TLS.

The gateways end TLS, engines do not: led past the gateways, every new connection would fail its handshake.
So such a Service stays, its route without limits, until somebody deletes it or the Service behind it. An
Event on it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from penstock.controller.owned_objects import RESOURCES, ObjectApi
from penstock.dataplane.envoy.gateway_services import FoundService, read_service, service_name
from penstock.kube.api import KubeError, NotFound, Object
from penstock.kube.event_outbox import PendingEvent
from penstock.kube.events import EventType, ObjectReference
from penstock.model.spec import ServiceKey

log = structlog.get_logger(__name__)
LOOK_EVERY_SECONDS = 60.0
SAY_EVERY_SECONDS = 3600.0  # as long as an API server keeps an Event
REASON: Final = "TLSServiceKept"


@dataclass(slots=True)
class _Seen:
    look_at: float  # Unix seconds
    say_at: float
    leads_nowhere: bool = False


class KeptServices:
    """Looks whether they are still there, and says why they are; `tell` takes an Event."""

    def __init__(self, kube: ObjectApi, tell: Callable[[PendingEvent], None] | None = None) -> None:
        self._kube, self._tell = kube, tell
        self._seen: dict[ServiceKey, _Seen] = {}

    async def is_over(self, found: FoundService, now: float) -> bool:
        """Whether nobody can come by one any more; the API server is asked once a minute.

        It was deleted or taken over, or led nowhere at two looks: a Service behind it may just be replaced.
        `now` is Unix seconds.
        """
        seen = self._seen.setdefault(found.key, _Seen(now, now))
        if now < seen.look_at:
            return False
        seen.look_at = now + LOOK_EVERY_SECONDS
        try:
            body = await self._get(found.key.namespace, service_name(found.key))
            behind = await self._get(found.key.namespace, found.backend) if found.backend else {}
        except KubeError as error:
            log.warning("a kept Service cannot be looked at", service=str(found.key), problem=error.message)
            return False
        if body is None or read_service(body) is None or (behind is None and seen.leads_nowhere):
            self.forget(found.key)
            return True
        seen.leads_nowhere = behind is None
        if now >= seen.say_at:
            seen.say_at = now + SAY_EVERY_SECONDS
            self._say(found.key, body)
        return False

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of one that its service uses again, or that is gone."""
        self._seen.pop(key, None)

    async def _get(self, namespace: str, name: str) -> Object | None:
        try:
            return await self._kube.get(RESOURCES["Service"], namespace, name)
        except NotFound:
            return None

    def _say(self, key: ServiceKey, body: Object) -> None:
        name = service_name(key)
        message = (
            f"Service {key.namespace}/{name} stays with the gateways, without limits: InferenceService "
            f"{key.name} is deleted or routed otherwise, and no engine ends the TLS of its clients; "
            f"lead them elsewhere, then delete {name}"
        )
        log.warning("a Service with TLS is kept", service=str(key), reason=REASON, message=message)
        if self._tell is not None:
            about = ObjectReference("v1", "Service", key.namespace, name, body["metadata"]["uid"])
            self._tell(PendingEvent(about, EventType.WARNING, REASON, message, action="KeepService"))
