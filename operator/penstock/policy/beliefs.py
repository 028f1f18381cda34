"""From what was seen to what is believed: the estimators of one service, in the order of their need.

Returns the capacity problem that the service's decision needs solved; solving it takes a second and
is somebody else's work, so the tick goes on with the table at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from penstock.model.observation import Load, Observation, Pool
from penstock.model.reading import Absence, Reading
from penstock.model.spec import EngineType, ServiceSpec
from penstock.policy.capacity_problem import CapacityProblem, Engine, static_limit
from penstock.policy.demand import (
    ClosedAhead,
    begun_demand,
    cell_ends_before,
    close_ahead,
    expected_demand,
    observe_rate,
)
from penstock.policy.engine_look import compare, look_at, silent_pods
from penstock.policy.estimate import Capacity, Estimate, NothingToCarry
from penstock.policy.forecast import Grid
from penstock.policy.lead_time import LeadTimeMemory, lead_seconds, observe_starts
from penstock.policy.lengths import LengthMemory, ShapeCell, observe_lengths, observe_means
from penstock.policy.memory import NO_DEMAND, ServiceMemory
from penstock.policy.saturation import saturation_rule
from penstock.policy.speed import SPEED_EVERY_SECONDS, is_due
from penstock.policy.step_factors import StepFactors
from penstock.policy.token_work import cell_work, measured_work

SHORTEST_DRAIN_SECONDS = 60.0
# There is nothing to read, or not yet; where that stays, a service may be scaled down all the same.
NO_FAILURE = (Absence.NOT_EXPOSED, Absence.TOO_FEW_SAMPLES, Absence.NO_REQUESTS)


@dataclass(frozen=True, slots=True)
class LoopTimes:
    """Times of the control loop that estimates depend on, in seconds."""

    tick_seconds: float = 15.0
    rate_window_seconds: float = 60.0
    length_window_seconds: float = 300.0

    @property
    def cell_seconds(self) -> float:
        """Return the step of the forecast's grid: windows that do not overlap, and a tick in each."""
        return max(self.rate_window_seconds, 2 * self.tick_seconds)


def observe(
    spec: ServiceSpec,
    engine: Engine,
    seen: Observation,
    memory: ServiceMemory,
    times: LoopTimes,
    ahead: ClosedAhead | None = None,
) -> ServiceMemory:
    """Let every estimator take in what was seen; a missing signal teaches nothing.

    `ahead` is what `forecast_ahead` made for this moment: it saves time and changes nothing. So does
    `compared_ahead`, which may have had the engine's last look compared already.
    """
    memory = compared_ahead(engine, memory)
    load, pool = seen.load, seen.pool
    lead, initial = memory.lead, spec.replicas.initial_startup_seconds
    if pool is not None:
        lead = observe_starts(lead, pool, seen.at, initial_seconds=initial)
    lengths = observe_lengths(
        memory.lengths,
        load.input_lengths,
        load.output_lengths,
        seen.at,
        window_seconds=times.length_window_seconds,
    )
    demand, look = memory.demand, None
    arrival = load.arrival_rate.value
    if arrival is not None:
        if lengths.cell is None:
            lengths = _means(lengths, load, arrival, times)
        offered = offered_rate(load, arrival)
        if demand is NO_DEMAND:
            demand = begun_demand(str(spec.key), times.cell_seconds)
        demand = observe_rate(
            demand,
            offered,
            seen.at,
            lead_seconds=_lead(spec, lead, seen.at, times),
            window_seconds=times.rate_window_seconds,
            cell_seconds=times.cell_seconds,
            tokens_per_request=measured_work(load, engine.output_weight) if engine.profile else None,
            usual_tokens=None if demand.reference_tokens else _mean_work(engine, lengths),
            ahead=ahead,
        )
        every, turn = min(SPEED_EVERY_SECONDS, 4 * times.tick_seconds), demand.offset_seconds
        due = is_due(memory.speed, seen.at, every_seconds=every, turn_seconds=turn)
        if due and pool is not None and pool.ready and lengths.cell is not None:
            between = max(every, times.tick_seconds)
            look = look_at(engine.profile, seen, lengths.cell, spec.balancer, every_seconds=between)
    partial_since = None
    if pool is not None and silent_pods(load, pool):
        partial_since = seen.at if memory.partial_since is None else memory.partial_since
    return ServiceMemory(
        demand,
        lead,
        memory.speed,
        lengths,
        memory.replicas,
        partial_since,
        memory.admission,
        memory.fallback,
        memory.calibration,
        look,
    )


def forecast_ahead(
    spec: ServiceSpec, memory: ServiceMemory, next_at: float, times: LoopTimes
) -> ClosedAhead | None:
    """Forecast now for the look at `next_at`, if that will be the first in a new cell; else None."""
    if not cell_ends_before(memory.demand, next_at, times.cell_seconds):
        return None
    lead = _lead(spec, memory.lead, next_at, times)
    return close_ahead(memory.demand, Grid(times.cell_seconds, lead, times.rate_window_seconds))


def compared_ahead(engine: Engine, memory: ServiceMemory) -> ServiceMemory:
    """Compare what the last look at the engine saw with its profile; without one, return the memory itself.

    The next `observe` would do so first: what it decides is the same, and it decides sooner.
    """
    if memory.look is None:
        return memory
    speed, calibration = memory.speed, memory.calibration
    if engine.profile is not None:
        speed, calibration = compare(engine.profile, memory.look, speed, calibration)
    return replace(memory, speed=speed, calibration=calibration, look=None)


def problem(spec: ServiceSpec, engine: Engine, memory: ServiceMemory) -> CapacityProblem | None:
    """Return the capacity problem to solve for this service; None while its shape is unknown."""
    if engine.service_time is None and memory.lengths.cell is None:
        return None
    if engine.is_reference and not memory.speed.believed:
        return None
    cell = None if engine.service_time is not None else memory.lengths.cell
    return problem_of(spec, engine, cell, memory.calibration.in_force)


def problem_of(
    spec: ServiceSpec, engine: Engine, cell: ShapeCell | None, factors: StepFactors
) -> CapacityProblem:
    """Return the problem of a service for requests of a shape on an engine with these factors."""
    return CapacityProblem(
        engine=engine,
        cell=cell,
        factors=factors,
        slo=spec.slo,
        balancer=spec.balancer,
        max_replicas=spec.replicas.max,
        turns_away=spec.turns_away,
        static_in_flight=static_limit(spec),
    )


def borrowed_problem(
    spec: ServiceSpec, engine: Engine, memory: ServiceMemory, lengths: LengthMemory
) -> CapacityProblem | None:
    """Return the problem of a fallback for requests with the `lengths` of the service that sends them.

    For one that has seen none of its own: without it the first overload would find no fallback.
    """
    return problem(spec, engine, replace(memory, lengths=lengths))


def estimate(
    spec: ServiceSpec,
    engine: Engine,
    seen: Observation,
    memory: ServiceMemory,
    capacity: Capacity | None,
    times: LoopTimes,
    solved_cell: ShapeCell | None = None,
) -> Estimate:
    """Put together what the decision may believe now.

    `solved_cell` is what `capacity` was solved for, None: the cell in force. Until the table of a new one is
    there the old one answers, and has to be asked in requests of its own.
    """
    load, pool = seen.load, seen.pool
    calibration = None if engine.profile is None else memory.calibration
    if load.arrival_rate.value is None:
        return Estimate(None, None, missing=load.arrival_rate.detail, calibration=calibration)
    ahead = _lead(spec, memory.lead, seen.at, times)
    tokens, ratio = _work(engine, memory.lengths, solved_cell or memory.lengths.cell)
    demand = expected_demand(
        memory.demand,
        lead_seconds=ahead,
        window_seconds=times.rate_window_seconds,
        capacity_tokens=tokens,
        weight_ratio=ratio,
    )
    if capacity is None and demand.bound_per_second == 0 and load.waiting.value == 0:
        capacity = NothingToCarry()
    if capacity is None:
        missing = _still_learning(engine, memory)
        learning = missing != memory.speed.refusal
        return Estimate(demand, None, missing=missing, learning=learning, calibration=calibration)
    if calibration is not None and calibration.distrusted:
        capacity = _without_model(spec, engine, load, pool, memory, capacity)
        if capacity is None:
            missing = "the model is contradicted (see ModelTrusted), and concurrency is not measured"
            return Estimate(demand, None, missing=missing, learning=True, calibration=calibration)
    return Estimate(
        demand=demand,
        capacity=capacity,
        backlog_per_second=_backlog(load.waiting, pool, capacity, ahead),
        speed_ratio=memory.speed.in_force,
        unreachable=capacity.unreachable,
        calibration=calibration,
        partial=_partial(spec, load, pool),
        partial_seconds=0.0 if memory.partial_since is None else seen.at - memory.partial_since,
    )


def offered_rate(load: Load, arrival_rate: float) -> float:
    """Return what users send, 1/s: as a gateway counts it at the door, else what the engines reveal.

    Engines never see what was shed or sent elsewhere: sized by them alone, a pool that sheds would
    look content and never grow.
    """
    if load.offered_rate.value is not None:
        return load.offered_rate.value
    return max(0.0, arrival_rate + load.queue_growth.otherwise(0.0))


def nothing(missing: str) -> Estimate:
    """Return the estimate of a service of which nothing can be believed."""
    return Estimate(None, None, missing=missing)


def _lead(spec: ServiceSpec, memory: LeadTimeMemory, now: float, times: LoopTimes) -> float:
    initial = spec.replicas.initial_startup_seconds
    return lead_seconds(memory, initial_seconds=initial, now=now, tick_seconds=times.tick_seconds)


def _without_model(
    spec: ServiceSpec,
    engine: Engine,
    load: Load,
    pool: Pool | None,
    memory: ServiceMemory,
    solved: Capacity,
) -> Capacity | None:
    """Return the rule that stands in for a model that measurements contradict; None: not measured."""
    if pool is None or engine.profile is None or memory.lengths.cell is None:
        return None
    if isinstance(solved, NothingToCarry):
        return solved
    return saturation_rule(
        load,
        pool,
        spec.slo,
        engine.profile,
        memory.lengths.cell,
        solved=solved,
    )


def _work(engine: Engine, memory: LengthMemory, cell: ShapeCell | None) -> tuple[float | None, float]:
    """Return the work of a request of the cell that capacity is known for, and that of a real one over it."""
    if engine.profile is None or cell is None:
        return None, 1.0
    tokens, mean = cell_work(cell, engine.output_weight), _mean_work(engine, memory)
    return tokens, 1.0 if mean is None else mean / tokens


def _mean_work(engine: Engine, memory: LengthMemory) -> float | None:
    """Return the long-run mean work of a request; None while its lengths are not known."""
    if engine.profile is None or memory.input is None or memory.output is None:
        return None
    return memory.input.mean + engine.output_weight * memory.output.mean


def _means(memory: LengthMemory, load: Load, arrival: float, times: LoopTimes) -> LengthMemory:
    """Take mean lengths from token totals while no histogram has been read."""
    inputs, outputs = load.input_token_rate.value, load.output_token_rate.value
    if not arrival or inputs is None or outputs is None:
        return memory
    return observe_means(
        memory,
        input_mean=inputs / arrival,
        output_mean=outputs / arrival,
        requests=arrival * times.rate_window_seconds,
    )


def _still_learning(engine: Engine, memory: ServiceMemory) -> str:
    """Say what is still to be learned before a count can be sized."""
    if engine.service_time is None and memory.lengths.cell is None:
        return "learning the lengths of prompts and outputs: fewer than 30 requests have been seen"
    if engine.is_reference and not memory.speed.believed:
        learning = "learning the engine's speed: name a profile in engine.profile to skip this"
        return memory.speed.refusal or learning
    return "solving the model for this traffic"


def _backlog(waiting: Reading, pool: Pool | None, capacity: Capacity, ahead: float) -> float:
    """Return the rate that works off, within the lead time, what waits beyond the model's own queue.

    Zero while ordered replicas are missing: the queue that grows meanwhile is theirs to clear, and
    with nodes for three of five it would order six, seven and eight as well.
    """
    if waiting.value is None or pool is None or pool.ready < pool.target:
        return 0.0
    excess = waiting.value - capacity.queue_limit * max(1, pool.ready)
    return max(0.0, excess) / max(ahead, SHORTEST_DRAIN_SECONDS)


def _partial(spec: ServiceSpec, load: Load, pool: Pool | None) -> str:
    """Say why the load may be under-counted; empty when it is not."""
    growth, custom = load.queue_growth, spec.engine.type is EngineType.CUSTOM
    if pool is not None and silent_pods(load, pool):
        return f"{load.reporting_pods.value:.0f} of {pool.ready} ready pods report"
    # Custom without a query for QueueDepth: ArrivalRate counts at the door, so what waits is in it.
    at_the_door = custom and growth.absence is Absence.NOT_EXPOSED
    if growth.value is None and load.offered_rate.value is None and not at_the_door:
        return f"the growth of the queue is not known: {growth.detail}"
    # What waits is a rate to serve as well; without the pulse a rate may outlive its pods by a window, and
    # sink meanwhile. What a Custom engine's own queries lack, its growth says.
    for each in () if custom else (load.waiting, load.reporting_pods, load.sample_age_seconds):
        if each.absence is not None and each.absence not in NO_FAILURE:
            return each.detail
    return ""
