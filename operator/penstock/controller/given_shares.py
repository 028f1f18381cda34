"""Which Services have a fallback's share of a route by our hand, until that share is given back.

refused, removed, another one named, or only observed --> given back;   not known now, paused --> as it is

What an operator before this one gave is told by three: the spec names the fallback, the status one that was
removed since, and the route's rules were last written by us. Weights that a user set are left to him.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.httproutes import HttpRoutes
from penstock.controller.service_state import Outcome
from penstock.model.decision import TrafficReason
from penstock.model.spec import BackendRef, HttpRouteRef, Mode, ServiceKey, ServiceSpec
from penstock.policy.fallback_refusal import WITHHELD
from penstock.policy.modes import weaker

# After a start nobody has asked any fallback yet: for as long "unchecked" is no news of it.
UNASKED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FallbackWeight:
    """A fallback's share (0..1) of a rule, and the Services whose share by our hand ends.

    Not `enforced`: what the fallback has is held, or there is none.
    """

    ratio: float
    ended: frozenset[str]
    enforced: bool

    @property
    def moves(self) -> bool:
        """Whether there is anything to set."""
        return self.enforced or bool(self.ended)


class GivenShares:
    """Remembers shares by service, from what is decided and from what was there when this operator began."""

    def __init__(self, routes: HttpRoutes, cache: FleetCache) -> None:
        self._routes, self._cache = routes, cache
        self._given: dict[ServiceKey, dict[str, float]] = {}  # ratios by Service
        self._shown: dict[ServiceKey, str] = {}  # the fallback that the status named before any decision
        self._recalled: set[ServiceKey] = set()
        self._began_at: float | None = None

    def keys(self) -> frozenset[ServiceKey]:
        """Return the services of which anything is known."""
        return frozenset(self._given.keys() | self._shown.keys() | self._recalled)

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone."""
        self._given.pop(key, None)
        self._shown.pop(key, None)
        self._recalled.discard(key)

    def before_decided(self, known: KnownService) -> None:
        """Note the fallback in the status of a service about which nothing is decided yet."""
        if shown := str((known.status.get("fallback") or {}).get("backend", "")):
            self._shown[known.key] = shown

    async def weight(
        self, spec: ServiceSpec, ref: HttpRouteRef, outcome: Outcome, fallback: str | None, now: float
    ) -> FallbackWeight:
        """Return what a service's fallback, the Service `fallback`, is to have now. `now` is Unix seconds.

        Raises `KubeError` where a route of before a restart cannot be read.
        """
        if self._began_at is None:
            self._began_at = now
        share = outcome.fallback.value if _backend(outcome.spec) == _backend(spec) else None
        unasked = outcome.fallback.reason is TrafficReason.FALLBACK_UNCHECKED
        if spec.key not in self._recalled and not (unasked and now - self._began_at < UNASKED_SECONDS):
            await self._recall(spec, ref, fallback)
        given = self._given.setdefault(spec.key, {})
        ended = frozenset[str]()
        if share is not None and not share.enforced:
            ended = frozenset(given)
        elif spec.mode is not Mode.PAUSED:
            withheld = outcome.fallback.reason in WITHHELD
            ended = frozenset(each for each in given if withheld or each != fallback)
        if fallback is None or fallback in ended:
            return FallbackWeight(0.0, ended, enforced=False)
        if share is None or not share.enforced:
            return FallbackWeight(given.get(fallback, 0.0), ended, enforced=False)
        given[fallback] = share.active_ratio
        return FallbackWeight(share.active_ratio, ended, enforced=True)

    def given_back(self, key: ServiceKey, services: frozenset[str]) -> None:
        """Note that Services have no share any more."""
        for each in services:
            self._given[key].pop(each, None)

    async def _recall(self, spec: ServiceSpec, ref: HttpRouteRef, fallback: str | None) -> None:
        """Find out once what an operator before this one gave."""
        own = Mode.ENFORCE if spec.fallback is None else spec.fallback.mode
        if weaker(spec.mode, own) is not Mode.ENFORCE:
            return  # whoever only observes touches no route
        named = {each for each in (fallback, self._service_shown(spec.key)) if each}
        if named and await self._routes.wrote_last(spec.key, ref):
            self._given[spec.key] = dict.fromkeys(named, 0.0)
        self._shown.pop(spec.key, None)
        self._recalled.add(spec.key)

    def _service_shown(self, key: ServiceKey) -> str | None:
        """Return the Service of the fallback in the status: the one in front of an InferenceService."""
        shown = self._shown.get(key)
        known = None if shown is None else self._cache.services.get(ServiceKey(key.namespace, shown))
        if known is None or known.spec is None:
            return shown
        found = self._cache.services_in_front(known.spec)
        return found[0] if len(found) == 1 else None


def _backend(spec: ServiceSpec) -> BackendRef | None:
    return None if spec.fallback is None else spec.fallback.backend
