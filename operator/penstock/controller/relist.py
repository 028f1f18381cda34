"""A second opinion against silent watches: list everything now and then and compare with the cache.

kopf's watches can end without a sound (nolar/kopf#1276, #996). A drift is repaired and counted; the
first listing also tells when the cache is complete, so that a start decides nothing on half a fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import structlog

from penstock.controller.between_ticks import BetweenTicks
from penstock.controller.cache import FleetCache
from penstock.controller.handlers import Feed
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
        cache: FleetCache,
        watched: Sequence[Feed],
        metrics: OperatorMetrics,
        namespaces: Sequence[str],
        gap: BetweenTicks,
    ) -> None:
        self._kube, self._cache, self._watched, self._metrics = kube, cache, watched, metrics
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
        before = list(self._cache.services)
        listed: set[tuple[str, str]] = set()
        missed = 0
        for feed in self._watched:
            for namespace in self._namespaces:
                try:
                    names, news = await self._see_all(feed, namespace)
                except NotFound:
                    if feed.resource is INFERENCE_SERVICES:
                        raise KubeError("the InferenceService CRD is not installed: apply crds/") from None
                    continue  # KEDA is not installed, or not any more
                except Forbidden:
                    if feed.resource is SCALED_OBJECTS:
                        continue
                    raise
                if feed.resource is INFERENCE_SERVICES:
                    listed |= names
                    missed += news
                self._metrics.cache_objects.labels(feed.resource.plural).set(len(names))
        for key in before:
            if key in self._cache.services and (key.namespace, key.name) not in listed:
                self._cache.forget_service(key.namespace, key.name)
                missed += 1
        if self.complete.is_set() and missed:
            # Events on their way explain a few; a watch that is dead shows at every pass.
            self._metrics.cache_drift.inc(missed)
            log.warning("the listing knew more than the watch", objects=missed)
        self.complete.set()
        self.problem = ""

    async def _see_all(self, feed: Feed, namespace: str) -> tuple[set[tuple[str, str]], int]:
        """Feed all objects of a type; return their namespaces and names, and how many services were news."""
        names: set[tuple[str, str]] = set()
        news = 0
        async for page in self._kube.pages(feed.resource, namespace):
            await self._gap.come()
            for body in page:
                news += feed.resource is INFERENCE_SERVICES and not self._cache.is_current(body)
                feed.see(body)
                names.add((body["metadata"].get("namespace", ""), body["metadata"]["name"]))
        return names, news
