"""A second opinion against silent watches: list everything now and then and compare with the cache.

A drift is repaired (``feed.py``) and counted; the first listing also tells when the cache is complete, so
that a start decides nothing on half a fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import structlog

from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.feed import Feed
from penstock.kube.api import (
    INFERENCE_SERVICES,
    SCALED_OBJECTS,
    Forbidden,
    KubeError,
    NotFound,
    Object,
    Resource,
)
from penstock.telemetry.metrics import OperatorMetrics

log = structlog.get_logger(__name__)


class PagedApi(Protocol):
    """What is asked of the API server: 10,000 Deployments at once would be 200 MB."""

    def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[Object]]:
        """Yield all objects of a type page by page; `namespace` empty means all. Raises `KubeError`."""


class Relister:
    """Lists all watched types; `complete` after the first full pass."""

    def __init__(
        self,
        kube: PagedApi,
        watched: Sequence[Feed],
        metrics: OperatorMetrics,
        namespaces: Sequence[str],
        gap: BetweenTicks,
    ) -> None:
        self._kube, self._watched, self._metrics = kube, watched, metrics
        self._namespaces = namespaces or ("",)
        self._gap = gap
        self.complete = asyncio.Event()
        self.problem = "the first listing has not ended"

    async def run(self, interval_seconds: float) -> None:
        """List until it works once, then at every interval."""
        while True:
            try:
                await self.pass_over()
                await asyncio.sleep(interval_seconds)
            except KubeError as error:
                self.problem = f"listing failed: {error.message}"
                log.warning("listing failed, trying again", error=error.message)
                await asyncio.sleep(5.0)

    async def pass_over(self) -> None:
        """List every type once, repair what differs."""
        missed = 0
        for feed in self._watched:
            missed += await self._list_everywhere(feed)
            self._metrics.cache_objects.labels(feed.resource.plural).set(feed.known)
            self._metrics.unread_objects.labels(feed.resource.plural).set(feed.unread)
        if self.complete.is_set() and missed:
            # Events on their way explain a few; a watch that is dead shows at every pass.
            self._metrics.cache_drift.inc(missed)
            log.warning("the listing knew more than the watch", objects=missed)
        self.complete.set()
        self.problem = ""

    async def _list_everywhere(self, feed: Feed) -> int:
        """List one type in all namespaces; return what `_list` does. One that refuses stops no other.

        Such a one went since the start, with its Role: `until_changed` ends the process, and its successor
        leaves it out.
        """
        refused: dict[str, Forbidden] = {}
        missed = 0
        for namespace in self._namespaces:
            try:
                missed += await self._list(feed, namespace)
            except Forbidden as error:
                refused[namespace] = error
        if refused and feed.resource is not SCALED_OBJECTS:
            if len(refused) == len(self._namespaces):
                raise next(iter(refused.values()))
            for namespace, refusal in refused.items():
                log.warning(
                    "a namespace cannot be listed",
                    namespace=namespace,
                    type=feed.resource.plural,
                    error=refusal.message,
                )
        return missed

    async def _list(self, feed: Feed, namespace: str) -> int:
        """List one type; return how many objects are gone, or news, which only services are counted for.

        The status of the other types moves all the time, so that some of their events are always on the way.
        """
        feed.begin_listing(namespace)
        counts, missed = feed.resource is INFERENCE_SERVICES, 0
        try:
            async for page in self._kube.pages(feed.resource, namespace):
                await self._gap.come()
                for body in page:
                    missed += feed.see_listed(body) and counts
        except NotFound:
            if counts:
                raise KubeError("the InferenceService CRD is not installed: apply crds/") from None
            # KEDA is not installed, or not any more.
        return missed + feed.end_listing()


def needed_types(watched: Sequence[Feed]) -> list[Resource]:
    """Return the types without which a namespace cannot be served."""
    return [feed.resource for feed in watched if feed.resource is not SCALED_OBJECTS]
