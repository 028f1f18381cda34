"""One service, one tick: observe, estimate, decide. Nothing is fetched or written here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.controller.cache import FleetCache, KnownService
from penstock.controller.canary_step import CanaryStep
from penstock.controller.fallbacks import Fallbacks
from penstock.controller.gateway_state import GatewayState
from penstock.controller.service_state import Outcome, ServiceState
from penstock.controller.tables import CapacityTables
from penstock.controller.target_change import leave_target
from penstock.model.observation import Load, Observation, Pool
from penstock.model.profiles import UnknownProfile
from penstock.model.spec import Mode, ServiceSpec
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.canary_conditions import NO_CANARY
from penstock.policy.canary_explanation import NONE_SET
from penstock.policy.capacity_problem import resolve_engine
from penstock.policy.decisions import ALONE, Surroundings, decide
from penstock.policy.gateway_load import GatewayRates, gateway_rates, offered_reading
from penstock.policy.memory import NO_CALIBRATION, NO_SPEED, ServiceMemory
from penstock.policy.request_classes import admission_refusal
from penstock.queueing.errors import QueueingError

NOTHING_READ = Load()


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a tick share."""

    cache: FleetCache
    tables: CapacityTables
    times: LoopTimes
    fallbacks: Fallbacks | None = None  # None: no gateway in this process
    canaries: CanaryStep | None = None


def prepare(context: StepContext, known: KnownService, state: ServiceState) -> None:
    """Resolve what the spec refers to, once a generation; a wrong name becomes a refusal."""
    spec = known.spec
    if spec is None or state.generation == known.generation:
        return
    before, state.refusal, state.engine = state.engine, None, None
    state.solved, state.asked, state.table, state.unsolvable = None, None, None, ""
    state.classes_refused = admission_refusal(spec.admission)
    if state.outcome is not None and state.outcome.spec.routing_type is not spec.routing_type:
        # What gateways counted, drained or refused was under the other routing.
        state.gateway = GatewayState()
    if state.outcome is not None and state.outcome.spec.target != spec.target:
        leave_target(state)
    try:
        state.engine = resolve_engine(spec.engine)
    except UnknownProfile as error:
        state.refusal = ("ProfileNotFound", str(error))
    except QueueingError as error:
        state.refusal = ("InvalidProfile", str(error))
    if before is not None and (state.engine is None or state.engine.profile != before.profile):
        # Factors are of a profile: those of the old one made the right one that replaced it 3 x too slow.
        state.memory = replace(state.memory, speed=NO_SPEED, calibration=NO_CALIBRATION, look=None)
    state.generation = known.generation  # last: what failed half-way is not done


def pool_of(cache: FleetCache, spec: ServiceSpec, state: ServiceState) -> Pool | None:
    """Return the target's pool; what we wrote counts until the watch has caught up."""
    workload = cache.workload(spec.key.namespace, spec.target)
    return None if workload is None else workload.pool_since(state, spec.target)


def step(
    context: StepContext, spec: ServiceSpec, state: ServiceState, load: Load | None, now: float
) -> Outcome:
    """Decide for one service and remember it in `state`; `load` None: nothing was collected for it."""
    rates = gateway_rates(state.gateway.memory, now) if state.gateway.memory.readings else None
    load = load or NOTHING_READ
    if rates is not None:
        counted = offered_reading(rates, spec.slo, window_seconds=context.times.rate_window_seconds)
        load = replace(load, offered_rate=counted)
    tries = context.canaries if state.canary is not None else None
    if tries is not None:
        load = tries.whole_load(spec, state, load)
    seen = Observation(
        at=now,
        load=load,
        pool=pool_of(context.cache, spec, state),
        conflict=context.cache.conflict(spec.key, spec.target),
    )
    memory, engine = state.memory, state.engine
    if engine is not None:
        memory = beliefs.observe(spec, engine, seen, memory, context.times, state.ahead)
        # Asked first, because making a problem to compare costs 3 microseconds a service.
        problem = None if _is_solved(state, memory) else beliefs.problem(spec, engine, memory)
        if problem is not None and problem != state.solved:
            # A table for a neighbouring shape or speed serves until the new one is solved; one is asked
            # for at a time, because lengths that are still being learned move on before it is there.
            asked = state.asked or problem
            table = context.tables.get(asked)
            if table is not None:
                state.table, state.solved, state.asked, state.unsolvable = table, asked, None, ""
            elif failure := context.tables.failure(asked):
                state.asked = None
                if asked == problem:
                    state.unsolvable = failure
            else:
                state.asked = asked
        cell = None if state.solved is None else state.solved.cell
        believed = beliefs.estimate(spec, engine, seen, memory, state.table, context.times, cell)
    else:
        believed = beliefs.nothing(state.refusal[1] if state.refusal else "the engine is not resolved yet")
    around = _surroundings(context, spec, state, rates, now)
    decision, admission, fallback, state.memory = decide(spec, seen, believed, memory, around)
    canary, canary_finding = NONE_SET, NO_CANARY
    if tries is not None:
        canary = tries.decide(
            spec, state, seen=seen, needed=decision.value, admission=admission.value, now=now
        )
        canary_finding = tries.finding(spec, state, canary)
    outcome = Outcome(
        spec=spec,
        seen=seen,
        around=around,
        estimate=believed,
        decision=decision,
        admission=admission,
        fallback=fallback,
        canary=canary,
        canary_finding=canary_finding,
    )
    state.outcome = outcome
    return outcome


def _surroundings(
    context: StepContext, spec: ServiceSpec, state: ServiceState, rates: GatewayRates | None, now: float
) -> Surroundings:
    """Return what is known of a service's gateways and fallback; most services have neither."""
    draining = len(state.gateway.closed(now))
    if spec.fallback is not None and context.fallbacks is not None:
        room, refusal = context.fallbacks.look(spec, rates)
        return Surroundings(rates, draining, room, refusal)
    return Surroundings(rates, draining) if rates is not None or draining else ALONE


def refusal_of(state: ServiceState) -> tuple[str, str] | None:
    """Return what the spec asks in vain."""
    if state.refusal is not None:
        return state.refusal
    if state.target_problem:
        return ("TargetNotReadable", state.target_problem)
    if state.unsolvable and state.table is None:  # else the table of lengths nearby still serves
        return ("ModelUnsolvable", state.unsolvable)
    return ("AmbiguousService", state.ambiguous) if state.ambiguous else None


def replicas_to_write(outcome: Outcome, state: ServiceState) -> int | None:
    """Return the target to write; None where nothing may or need be written."""
    spec, seen, value = outcome.spec, outcome.seen, outcome.decision.value
    if spec.mode is not Mode.ENFORCE or seen.conflict or refusal_of(state) is not None:
        return None
    if value is None or seen.pool is None or value == seen.pool.target:
        return None
    return value


def _is_solved(state: ServiceState, memory: ServiceMemory) -> bool:
    """Whether the table at hand answers what would be asked now; the rest of a problem is the spec's."""
    solved = state.solved
    return (
        solved is not None
        and solved.cell is memory.lengths.cell
        and (solved.factors is memory.calibration.in_force or solved.factors == memory.calibration.in_force)
    )
