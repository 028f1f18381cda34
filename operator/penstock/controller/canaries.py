"""The services of a tick whose revisions are tried: begun, looked at, acted upon. Others cost a look each."""

from __future__ import annotations

from penstock.controller.cache import KnownService
from penstock.controller.canary_actions import CanaryActions
from penstock.controller.canary_counters import CanaryCounters
from penstock.controller.service_state import ServiceState
from penstock.model.spec import ServiceKey, WorkloadType


class Canaries:
    """One tick after the other: `begin` for each service, then `look`, the decisions, and `act`."""

    def __init__(self, counters: CanaryCounters, actions: CanaryActions) -> None:
        self._counters, self._actions = counters, actions
        self._tried: list[tuple[KnownService, ServiceState]] = []

    def begin_tick(self) -> None:
        """Forget whom the last tick was about."""
        self._tried = []

    def begin(self, known: KnownService, state: ServiceState, now: float) -> KnownService:
        """Return the service as the rest of the tick goes by it; `now` in Unix seconds."""
        spec = known.spec
        if spec is None:
            return known
        if spec.canary is None and spec.workload_type is WorkloadType.TARGET:
            state.canary = None
            return known
        known = self._actions.begin(known, state, now)
        self._tried.append((known, state))
        return known

    def forget(self, key: ServiceKey) -> None:
        """Drop what is known of a service that is gone."""
        self._actions.forget(key)

    async def look(self, now: float) -> None:
        """Fetch what the decisions on canaries need."""
        looked_at = [(known.spec, state) for known, state in self._tried if known.spec is not None]
        await self._counters.look(looked_at, now)

    async def act(self, now: float) -> None:
        """Do what was decided; not again what an earlier tick did, where a defect stopped this one."""
        tried = [state for _, state in self._tried if not state.defect]
        decided = [(state.outcome, state) for state in tried if state.outcome is not None]
        await self._actions.act(decided, now)
