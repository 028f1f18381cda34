"""What is known of the fallbacks that services name: whether they may be used, and what room they have."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.controller.arm_endpoints import stable_backend
from penstock.controller.cache import FleetCache
from penstock.controller.endpoints import EndpointCache
from penstock.controller.model_check import ModelCheck, Served
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.tables import CapacityTables
from penstock.model.spec import BackendKind, ServiceKey, ServiceSpec
from penstock.model.traffic import Backend
from penstock.policy.beliefs import borrowed_problem
from penstock.policy.estimate import Capacity
from penstock.policy.fallback_refusal import FallbackFacts, fallback_refusal, find_loops
from penstock.policy.fallback_room import FallbackRoom, room_beside, room_of_service
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.request_classes import Refusal

_UNASKED = Served()


class Fallbacks:
    """Looks fallbacks up in what the watches and the last tick have shown."""

    def __init__(
        self,
        cache: FleetCache,
        states: Mapping[ServiceKey, ServiceState],
        endpoints: EndpointCache | None = None,
        models: ModelCheck | None = None,
        tables: CapacityTables | None = None,
    ) -> None:
        self._cache, self._states, self._endpoints, self._models = cache, states, endpoints, models
        self._tables = tables
        self._loops: Mapping[ServiceKey, str] = {}

    def begin_tick(self) -> None:
        """Find loops among the fallbacks once for the whole tick."""
        self._loops = find_loops(
            known.spec
            for known in self._cache.services.values()
            if known.spec is not None and known.spec.fallback is not None
        )

    def look(
        self, spec: ServiceSpec, rates: GatewayRates | None
    ) -> tuple[FallbackRoom | None, Refusal | None]:
        """Return the room of a service's fallback and why it may not be used; None for what is not so."""
        refusal = fallback_refusal(spec, self._facts(spec), self._loops)
        return (None, refusal) if refusal is not None else (self._room(spec, rates), None)

    def backend(self, spec: ServiceSpec) -> Backend | None:
        """Return the Service that a fallback's requests go to; None where there is none.

        Of an InferenceService the stable arm's: the one in front may select an adopted canary's pods too.
        """
        front = self._front(spec)
        other = None if front is None else self._other(spec)
        if front is None or other is None or self._endpoints is None:
            return front
        return stable_backend(other, front, self._endpoints)

    def _front(self, spec: ServiceSpec) -> Backend | None:
        if spec.fallback is None or self._endpoints is None:
            return None
        ref = spec.fallback.backend
        if ref.kind is BackendKind.SERVICE:
            if ref.port is None or not self._endpoints.ports(spec.key.namespace, ref.name):
                return None
            named = self._endpoints.port_name(spec.key.namespace, ref.name, ref.port)
            return Backend(spec.key.namespace, ref.name, ref.port, ref.name, named)
        other = self._other(spec)
        return None if other is None else backend_of(other, self._cache, self._endpoints)

    def _facts(self, spec: ServiceSpec) -> FallbackFacts:
        assert spec.fallback is not None  # noqa: S101 - asked only of services that name one
        other, front, backend = self._other(spec), self._front(spec), self.backend(spec)
        found = other is not None or spec.fallback.backend.kind is BackendKind.SERVICE
        if self._endpoints is not None and spec.fallback.backend.kind is BackendKind.SERVICE:
            found = backend is not None
        served = _UNASKED
        if self._models is not None and self._endpoints is not None and front and backend:
            there = self._endpoints.of(backend.namespace, backend.service, backend.port)
            # Known by the Service in front: another Service before the same pods is nothing to ask again for.
            served = self._models.served(front, there)
        return FallbackFacts(found, other, served.models, served.unanswered)

    def _other(self, spec: ServiceSpec) -> ServiceSpec | None:
        assert spec.fallback is not None  # noqa: S101
        if spec.fallback.backend.kind is not BackendKind.INFERENCE_SERVICE:
            return None
        known = self._cache.services.get(ServiceKey(spec.key.namespace, spec.fallback.backend.name))
        return None if known is None else known.spec

    def _room(self, spec: ServiceSpec, rates: GatewayRates | None) -> FallbackRoom | None:
        assert spec.fallback is not None  # noqa: S101
        ref = spec.fallback.backend
        if ref.kind is BackendKind.SERVICE:
            return room_of_service(ref)
        state = self._states.get(ServiceKey(spec.key.namespace, ref.name))
        outcome = None if state is None else state.outcome
        if state is None or outcome is None or outcome.seen.pool is None:
            return None
        limit = outcome.admission.value
        # Its own gateway counts its own clients; its engines count whoever comes.
        counted_at_the_door = outcome.seen.load.offered_rate.value is not None
        return room_beside(
            ref.name,
            capacity=self._capacity(spec, state, outcome),
            demand=outcome.estimate.demand,
            serving=max(0, outcome.seen.pool.ready - len(state.gateway.drain.names)),
            limit=None if limit is None else limit.limit,
            ours_per_second=0.0 if counted_at_the_door or rates is None else rates.spilled,
        )

    def _capacity(self, spec: ServiceSpec, state: ServiceState, outcome: Outcome) -> Capacity | None:
        """Return what the fallback carries; of requests like ours while it has seen none of its own."""
        known, ours = outcome.estimate.capacity, self._states.get(spec.key)
        if known is not None and known.admission is not None:
            return known
        if self._tables is None or state.engine is None or ours is None:
            return known
        problem = borrowed_problem(outcome.spec, state.engine, state.memory, ours.memory.lengths)
        return None if problem is None else self._tables.get(problem)


def backend_of(spec: ServiceSpec, cache: FleetCache, endpoints: EndpointCache) -> Backend | None:
    """Return the Service in front of a service's target; None while it is unknown or has no TCP port."""
    names = cache.services_in_front(spec)
    if len(names) != 1:
        return None
    ports = endpoints.ports(spec.key.namespace, names[0])
    if not ports:
        return None
    asked = spec.service.port if spec.service is not None else None
    served_by = spec.model_names[0] if spec.model_names else spec.key.name
    port = ports[0] if asked is None else asked
    named = endpoints.port_name(spec.key.namespace, names[0], port)
    return Backend(spec.key.namespace, names[0], port, served_by, named)
