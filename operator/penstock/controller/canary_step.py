"""One service's canary, one tick: look at both arms, judge, decide. Nothing is fetched or written here.

The replica decision is for the whole load until a promotion is done. Gateways count both arms together;
where none serve, the engines of the stable arm see only its share, so the canary's is added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from penstock.controller.arm_endpoints import (
    ArmsSeen,
    arms_of,
    canary_backend,
    canary_pool,
    canary_target,
    in_flight,
    ready_counts,
    scaled_by_another,
    stable_backend,
    workload_of,
)
from penstock.controller.cache import FleetCache
from penstock.controller.canary_judging import canary_rate, take_evidence
from penstock.controller.canary_state import CanaryState
from penstock.controller.endpoints import EndpointCache
from penstock.controller.fallbacks import backend_of
from penstock.controller.gateway_state import ArmsTold
from penstock.controller.service_state import ServiceState
from penstock.dataplane.gatewayapi.weights import sticky_shortfall
from penstock.model.canary import CANARY_ANNOTATION, CanaryObservation, CanaryPlan, read_command
from penstock.model.conditions import Finding, Status
from penstock.model.decision import Decision, RolloutReason
from penstock.model.observation import Load, Observation, Pool
from penstock.model.reading import Absence, Reading
from penstock.model.spec import Mode, RoutingType, ServiceSpec, WorkloadType
from penstock.model.traffic import Endpoint
from penstock.policy.admission import Admission
from penstock.policy.beliefs import LoopTimes
from penstock.policy.canary import decide_canary
from penstock.policy.canary_conditions import CANARY_HEALTHY, canary_finding
from penstock.policy.canary_load import ArmsLoad, compare
from penstock.policy.lead_time import lead_seconds

# Counters of a scrape ago are of requests that began under the load before: two scrapes, 30 s at 15 s.
SETTLING_SCRAPES = 2


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """Decides on the canaries of single services; `endpoints` None: nobody asks for addresses."""

    cache: FleetCache
    endpoints: EndpointCache | None
    times: LoopTimes
    scrape_interval_seconds: float = 15.0

    def decide(
        self,
        spec: ServiceSpec,
        state: ServiceState,
        *,
        seen: Observation,
        needed: int | None,
        admission: Admission | None,
        now: float,
    ) -> Decision[CanaryPlan]:
        """Return what is to be done with both arms, and remember it in ``state.canary``.

        `needed` is the replica decision for the whole load; `now` in Unix seconds.
        """
        canary = state.canary
        assert canary is not None  # noqa: S101 - made with the state of every service that has one
        verdict = take_evidence(spec, canary, now)
        memory = canary.memory
        tried = memory.revision if memory.under_way else self.wanted(spec, canary)
        pool = canary_pool(self.cache, spec, canary, tried)
        arms, told = self.arms(spec, tried, closed=state.gateway.closed(now))
        stable_ready, canary_ready = ready_counts(spec, arms, seen.pool, pool)
        stable_busy, canary_busy = in_flight(state.gateway, now)
        command, fault = read_command(self._annotations(spec))
        observation = CanaryObservation(
            wanted=self.wanted(spec, canary),
            stable_revision=canary.stable,
            canary=pool,
            stable=seen.pool,
            canary_ready=canary_ready,
            stable_ready=stable_ready,
            needed=needed,
            acknowledged=_acknowledged(state, arms, told),
            verdict=verdict,
            canary_in_flight=canary_busy,
            stable_in_flight=stable_busy,
            in_flight_per_replica=admission.per_replica.in_flight if admission is not None else None,
            command=command,
            command_fault=fault,
            refusal=self._refusal(spec, canary, seen.pool, pool),
            startup_seconds=self._startup_seconds(spec, state, now),
            scrape_interval_seconds=self.scrape_interval_seconds,
        )
        if canary.dry_run:
            # Arms that nobody makes would count against the revision. What is remembered is what was done: a
            # run that an earlier process began goes on where it was.
            decision, _ = decide_canary(replace(spec, mode=Mode.OBSERVE), observation, memory, now)
        else:
            decision, canary.memory = decide_canary(spec, observation, memory, now)
        canary.plan = decision.value
        load = ArmsLoad(_weight_ratio(decision.value), canary_ready, stable_ready)
        self._compare(spec, state, load, seen.load, now)
        return decision

    def _compare(
        self, spec: ServiceSpec, state: ServiceState, load: ArmsLoad, seen: Load, now: float
    ) -> None:
        """Note what the load of each arm means for the evidence that comes until the next tick."""
        canary = state.canary
        assert canary is not None  # noqa: S101 - as in decide
        offered = seen.offered_rate.value
        rate = seen.arrival_rate.value if offered is None else offered
        canary.load_ratio = load.ratio
        canary.compared = compare(spec.slo.objectives, load, state.table, rate)
        settled = now + SETTLING_SCRAPES * self.scrape_interval_seconds
        last = _at_last_step(spec, canary.plan)
        canary.alike_from = {
            metric: canary.alike_from.get(metric, settled)
            for metric, each in canary.compared.items()
            if each.alike or last
        }

    def finding(self, spec: ServiceSpec, state: ServiceState, decision: Decision[CanaryPlan]) -> Finding:
        """Return the condition; what hinders the arms' objects or the gateways is said first."""
        problem = None if state.canary is None else state.canary.problem
        if problem is not None:
            return Finding(CANARY_HEALTHY, Status.FALSE, *problem)
        return canary_finding(decision, problem=state.gateway.problem)

    def whole_load(self, spec: ServiceSpec, state: ServiceState, load: Load) -> Load:
        """Return the load of both arms where only the stable one's engines were counted.

        While nobody counts the canary's requests (its warm-up at each new share, series that are gone) its
        share of the weights stands in for them; at 100 % that says nothing, and nothing is decided.
        """
        canary = state.canary
        weight = canary.plan.weight_percent if canary is not None and canary.plan is not None else 0
        if canary is None or not weight or load.offered_rate.value is not None:
            return load
        arrivals = load.arrival_rate.value
        if arrivals is None:
            return load
        offered = max(0.0, arrivals + load.queue_growth.otherwise(0.0))
        theirs = self._counted_rate(canary)
        if theirs is not None:
            return replace(load, offered_rate=Reading(offered + theirs))
        if weight < 100:
            return replace(load, offered_rate=Reading(offered * 100.0 / (100.0 - weight)))
        missing = Reading.missing(
            Absence.TOO_FEW_SAMPLES, "all requests go to the canary, whose requests have not been counted yet"
        )
        return replace(load, arrival_rate=missing)

    def _counted_rate(self, canary: CanaryState) -> float | None:
        """Return the canary's requests a second in the run under way; None while they are not counted."""
        plan, read, evidence = canary.plan, canary.read, canary.evidence
        if plan is None or read is None or evidence.run != plan.run:
            return None
        now = max((each.at for each in (read.stable, read.canary) if each is not None), default=None)
        if now is None:
            return None
        stale = SETTLING_SCRAPES * self.scrape_interval_seconds + self.times.tick_seconds
        return canary_rate(evidence, now, stale_seconds=stale)

    def wanted(self, spec: ServiceSpec, canary: CanaryState) -> str:
        """Return the revision to try."""
        if spec.workload_type is WorkloadType.TEMPLATE:
            return spec.template.revision if spec.template is not None else ""
        return canary.wanted

    def arms(
        self, spec: ServiceSpec, revision: str, *, closed: Collection[str] = ()
    ) -> tuple[ArmsSeen | None, ArmsTold]:
        """Return who gets requests in each arm, and what gateways are to know of them; None: not known."""
        stable: tuple[Endpoint, ...] = ()
        canary: tuple[Endpoint, ...] = ()
        if self.endpoints is None:
            return None, ArmsTold()
        front = backend_of(spec, self.cache, self.endpoints)
        if front is not None:
            own = stable_backend(spec, front, self.endpoints)
            stable = self.endpoints.of(own.namespace, own.service, own.port, draining=closed)
            there = canary_backend(spec, own, self.endpoints)
            if there is not None:
                canary = self.endpoints.of(there.namespace, there.service, there.port, draining=closed)
        return arms_of(spec, stable, canary, revision), ArmsTold.of(stable, canary)

    def _annotations(self, spec: ServiceSpec) -> Mapping[str, str]:
        known = self.cache.services.get(spec.key)
        return {} if known is None or not known.canary_command else {CANARY_ANNOTATION: known.canary_command}

    def _refusal(
        self, spec: ServiceSpec, canary: CanaryState, stable: Pool | None, pool: Pool | None
    ) -> tuple[RolloutReason, str] | None:
        """Return why nothing may be tried."""
        if spec.canary is not None and spec.routing.type is RoutingType.NONE:
            return (
                RolloutReason.NO_GATEWAY,
                "routing.type None: nothing in the request path can give a canary a share; set routing.type "
                "Envoy, or GatewayAPI with an HTTPRoute",
            )
        if spec.canary is not None and spec.routing.type is RoutingType.GATEWAY_API:
            sticky = sticky_shortfall(spec.canary.sticky_header)
            if sticky is not None:
                return (RolloutReason.STICKY_SPLIT_NOT_POSSIBLE, sticky.message)
        if spec.workload_type is WorkloadType.TEMPLATE:
            return None
        target = canary_target(spec, "")
        if target == spec.target:
            return (
                RolloutReason.CANARY_IS_STABLE,
                f"canary.targetRef names {target}, which is workload.targetRef too: name a second workload",
            )
        if stable is None:
            return (RolloutReason.STABLE_MISSING, f"{spec.target} does not exist: nothing to compare with")
        if pool is None or workload_of(self.cache, spec, target) is None:
            message = f"{target} does not exist: create it, or correct canary.targetRef"
            return (RolloutReason.CANARY_NOT_FOUND, message)
        held = "" if target is None else scaled_by_another(self.cache, spec, target)
        if held:
            return (RolloutReason.CANARY_CONFLICT, held)
        if canary.problem is not None and not canary.memory.under_way:
            return (RolloutReason.CANARY_NOT_ROUTED, canary.problem[1])
        return None

    def _startup_seconds(self, spec: ServiceSpec, state: ServiceState, now: float) -> float:
        return lead_seconds(
            state.memory.lead,
            initial_seconds=spec.replicas.initial_startup_seconds,
            now=now,
            tick_seconds=self.times.tick_seconds,
        )


def _weight_ratio(plan: CanaryPlan | None) -> float:
    return 0.0 if plan is None else plan.weight_percent / 100.0


def _at_last_step(spec: ServiceSpec, plan: CanaryPlan | None) -> bool:
    """Whether the canary has all that it gets before a promotion: no more like load is to come."""
    if spec.canary is None or plan is None:
        return False
    steps = spec.canary.step_percents
    return plan.step >= len(steps) - 1 and plan.weight_percent >= steps[-1]


def _acknowledged(state: ServiceState, arms: ArmsSeen | None, now_there: ArmsTold) -> bool | None:
    """Whether all gateways have the endpoints of this moment, and these are of the right revisions."""
    gateway = state.gateway
    if gateway.acknowledged is not True:
        return gateway.acknowledged
    if arms is None or arms.mixed:
        return False
    # Where HTTPRoutes are steered, endpoints are the gateway's own business.
    return gateway.told is None or gateway.told.same_endpoints(now_there)
