"""Our own policy with `routing.type: Envoy`: admission and fallback are decided in the same tick.

The deciders are the operator's (`policy.decisions.decide`), fed with what the simulated gateways counted.
The fallback is an InferenceService of fixed size without clients of its own; its room is what the model
says of its engine for requests like ours, as `controller/fallbacks.py` has it for one that saw none.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

from penstock.model.spec import (
    AdmissionSpec,
    BackendRef,
    Balancer,
    FallbackSpec,
    RoutingSpec,
    RoutingType,
)
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem, Engine
from penstock.policy.capacity_table import CapacityTable
from penstock.policy.decisions import Surroundings
from penstock.policy.demand import Demand
from penstock.policy.fallback_room import FallbackRoom, room_beside
from penstock.policy.step_factors import AS_PROFILED
from penstock.sim.gate import Traffic
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policies.sizing import solved
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Fallback, Scenario

FALLBACK_NAME = "fallback"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the user writes of traffic; the fallback's pool is the scenario's."""

    admission: AdmissionSpec = field(default_factory=AdmissionSpec)
    fallback_percent: int = 50  # of the requests at most, as the resource's default


class PenstockWithGateway(Penstock):
    """Penstock at a scenario, its gateways included. Satisfies `sim.gate.SteersTraffic`."""

    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        gateway: GatewaySettings | None = None,
        times: LoopTimes | None = None,
    ) -> None:
        super().__init__(scenario, settings, times)
        chosen = gateway or GatewaySettings()
        self._fallback = scenario.fallback
        named = FallbackSpec(BackendRef(FALLBACK_NAME), max_percent=chosen.fallback_percent)
        self.spec = replace(
            self.spec,
            routing=RoutingSpec(RoutingType.ENVOY),
            admission=chosen.admission,
            fallback=None if scenario.fallback is None else named,
        )

    def surroundings(self, seen: Signals) -> Surroundings:
        """Return what the gateways counted, and the fallback's room."""
        room = None if self._fallback is None else self._room(self._fallback)
        return Surroundings(rates=seen.gateway, room=room)

    def traffic(self) -> Traffic:
        """Return what the last decision wants of the gateways."""
        if self.decided is None:
            return Traffic(None, None)
        return Traffic(self.decided.admission.value, self.decided.fallback.value)

    def _room(self, fallback: Fallback) -> FallbackRoom | None:
        return room_beside(
            FALLBACK_NAME,
            capacity=self._capacity(fallback),
            demand=Demand(offered_per_second=0.0, rise_per_second=0.0, lead_seconds=0.0),
            serving=fallback.replicas,
            limit=None,
        )

    def _capacity(self, fallback: Fallback) -> CapacityTable | None:
        cell = self.memory.lengths.cell
        if cell is None:
            return None
        problem = CapacityProblem(
            engine=Engine(fallback.profile),
            cell=cell,
            factors=AS_PROFILED,
            slo=self.spec.slo,
            balancer=Balancer.LEAST_REQUESTS,
            max_replicas=fallback.replicas,
            turns_away=True,
        )
        with suppress(ValueError, ArithmeticError):
            return solved(problem)
        return None
