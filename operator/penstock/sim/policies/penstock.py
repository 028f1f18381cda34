"""Our own policy: the operator's estimators and deciders, unchanged, in the order of controller/step.py.

What differs from the operator is where things come from: signals of the simulation instead of the
collector's, a target that is written at once, and capacity tables that are there when they are asked for
(in the operator they take a tick or two).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from penstock.model.observation import Histogram, Load, Observation, Pool
from penstock.model.reading import Absence, Reading
from penstock.model.spec import (
    Balancer,
    EngineSpec,
    Mode,
    ReplicaSpec,
    ServiceKey,
    ServiceSpec,
    Slo,
    TargetRef,
)
from penstock.policy import beliefs
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem, Engine
from penstock.policy.capacity_table import CapacityTable
from penstock.policy.decisions import ALONE, Decided, Surroundings, decide
from penstock.policy.estimate import Estimate
from penstock.policy.gateway_load import offered_reading
from penstock.policy.memory import ServiceMemory
from penstock.policy.replicas import acknowledge
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policies.sizing import balancer_of, slo_of, solved
from penstock.sim.policy_port import Buckets, Signals
from penstock.sim.scenario import Scenario

SILENT = Reading.missing(Absence.QUERY_FAILED, "Prometheus does not answer")
YOUNG = Reading.missing(Absence.TOO_FEW_SAMPLES, "no two scrapes yet")
IDLE = Reading.missing(Absence.NO_REQUESTS, "nothing was served")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user of a simulated service may set; see ServiceSpec for units."""

    percentile: float = 0.95
    objective_ratio: float = 1.0  # objectives in the resource over those that are judged: a user's margin
    spare: int = 0
    scale_down_window_seconds: float = 300.0
    initial_startup_seconds: float | None = None  # None: the scenario's median
    profile: EngineProfile | None = None  # that the user believes in; None: the true one
    balancer: Balancer | None = None  # None: the true one
    max_added_per_minute: int | None = None
    slo: Slo | None = None  # None: the scenario's objectives at `percentile`


def service_of(scenario: Scenario, settings: Settings) -> ServiceSpec:
    """Return the InferenceService a user would write for this scenario."""
    start_up = settings.initial_startup_seconds
    slo = settings.slo or slo_of(scenario.slo, settings.percentile)
    scaled = tuple(replace(each, seconds=each.seconds * settings.objective_ratio) for each in slo.objectives)
    return ServiceSpec(
        key=ServiceKey("simulation", "service"),
        uid="simulation",
        generation=1,
        mode=Mode.ENFORCE,
        target=TargetRef("apps", "Deployment", "service"),
        service=None,
        model_names=("model",),
        slo=replace(slo, objectives=scaled),
        engine=EngineSpec(),
        replicas=ReplicaSpec(
            min=scenario.min_replicas,
            max=scenario.max_replicas,
            spare=settings.spare,
            initial_startup_seconds=scenario.start_up.median_seconds if start_up is None else start_up,
            scale_down_window_seconds=settings.scale_down_window_seconds,
            max_added_per_minute=settings.max_added_per_minute,
        ),
        balancer=settings.balancer or balancer_of(scenario.routing),
    )


def load_of(seen: Signals, slo: Slo, times: LoopTimes, frontend_seconds: float) -> Load:
    """Return what the collector would have read at the same instant; what a gateway counts is not of it.

    vLLM takes the time to first token in its front end, the simulation at the engine: `frontend_seconds`
    is what lies between. Without it calibration takes 10 ms off each prompt, a quarter of its arithmetic.
    """
    serving = [each for each in seen.replicas if not each.draining]
    rates = seen.rates(times.rate_window_seconds)
    if rates is None:
        # Gauges alone: an operator that sees no rate holds, so what else is there would not be used.
        why = SILENT if seen.counters is None else YOUNG
        return Load(arrival_rate=why, queue_growth=why, waiting=why, running=why)
    engine, lengths = rates.engine, seen.rates(times.length_window_seconds)
    absent = SILENT if not seen.replicas else IDLE
    mean = engine.ttft_seconds.mean
    return Load(
        arrival_rate=Reading(engine.requests),
        queue_growth=Reading(rates.waiting_growth_per_second),
        waiting=_maybe(seen.waiting, absent),
        running=_maybe(seen.running, absent),
        input_token_rate=Reading(engine.prompt_tokens),
        output_token_rate=Reading(engine.generation_tokens),
        tpot_mean=_maybe(engine.tpot_seconds.mean, IDLE),
        ttft={each: _maybe(engine.ttft_seconds.quantile(each), IDLE) for each in _percentiles(slo, "ttft")},
        tpot={each: _maybe(engine.tpot_seconds.quantile(each), IDLE) for each in _percentiles(slo, "tpot")},
        reporting_pods=Reading(float(len(serving))),
        sample_age_seconds=_maybe(min((each.age_seconds for each in serving), default=None), absent),
        input_lengths=None if lengths is None else _histogram(lengths.engine.input_lengths),
        output_lengths=None if lengths is None else _histogram(lengths.engine.output_lengths),
        ttft_mean=IDLE if mean is None else Reading(mean + frontend_seconds),
    )


class Penstock:
    """Penstock at a scenario. Subclasses of the benchmark switch parts off: see `believe`."""

    name = "Penstock"

    def __init__(self, scenario: Scenario, settings: Settings, times: LoopTimes | None = None) -> None:
        self.times = times or LoopTimes()
        self.interval_seconds = self.times.tick_seconds
        self.spec = service_of(scenario, settings)
        self.engine = Engine(settings.profile or scenario.profile)
        self.memory = ServiceMemory()
        self._frontend_seconds = scenario.profile.frontend_seconds
        self.decided: Decided | None = None
        self.estimate: Estimate | None = None
        self._table: tuple[CapacityProblem, CapacityTable] | None = None

    def decide(self, seen: Signals) -> int:
        """Return the target the operator would write, or the one in force where it would write nothing."""
        load = load_of(seen, self.spec.slo, self.times, self._frontend_seconds)
        if seen.gateway is not None:
            window = self.times.rate_window_seconds
            load = replace(
                load, offered_rate=offered_reading(seen.gateway, self.spec.slo, window_seconds=window)
            )
        pool = Pool(target=seen.target, current=seen.ready + seen.starting, ready=seen.ready)
        observation = Observation(at=seen.at, load=load, pool=pool)
        memory = self.remember(beliefs.observe(self.spec, self.engine, observation, self.memory, self.times))
        table = self._solved(beliefs.problem(self.spec, self.engine, memory))
        believed = self.believe(
            beliefs.estimate(self.spec, self.engine, observation, memory, table, self.times)
        )
        decided = decide(self.spec, observation, believed, memory, self.surroundings(seen))
        value, replicas = decided.replicas.value, decided.memory.replicas
        wanted = seen.target if value is None else value
        if wanted != seen.target:
            replicas = acknowledge(replicas, written=wanted, before=seen.target, now=seen.at)
        self.memory, self.decided, self.estimate = decided.memory.with_replicas(replicas), decided, believed
        return wanted

    def surroundings(self, seen: Signals) -> Surroundings:
        """Return what is around the service beside its load: nothing."""
        return ALONE

    def remember(self, memory: ServiceMemory) -> ServiceMemory:
        """Return what is remembered of a tick: everything."""
        return memory

    def believe(self, estimate: Estimate) -> Estimate:
        """Return what the decision goes by: what the estimators say."""
        return estimate

    def _solved(self, problem: CapacityProblem | None) -> CapacityTable | None:
        """Return the table for a problem; one that cannot be solved leaves the last one in force."""
        if problem is not None and (self._table is None or self._table[0] != problem):
            with suppress(ValueError, ArithmeticError):
                self._table = problem, solved(problem)
        return None if self._table is None else self._table[1]


def _maybe(value: float | None, absent: Reading) -> Reading:
    return absent if value is None else Reading(float(value))


def _percentiles(slo: Slo, metric: str) -> set[float]:
    return {each.percentile for each in slo.objectives if each.metric == metric}


def _histogram(buckets: Buckets) -> Histogram:
    return Histogram(buckets.upper_bounds, tuple(buckets.increases.tolist()), buckets.mean)
