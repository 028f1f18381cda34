"""From a service file, a trace and options to the scenario that all policies get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock.cli.plan_fault import PlanFault
from penstock.cli.plan_question import require_offline_timing
from penstock.cli.plan_trace import require_room
from penstock.cli.simulate_window import Window, read_window
from penstock.model.profiles import UnknownProfile, profile_named
from penstock.model.spec import AdmissionPolicy, Balancer, Metric, Mode, Objective, RoutingType, ServiceSpec
from penstock.policy.capacity_problem import resolve_engine
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import InvalidParameter
from penstock.traces.reading import Trace

if TYPE_CHECKING:
    from penstock.sim.scenario import Admission, Scenario

FIRST_SECONDS = 300.0  # all policies start with what the first five minutes need


@dataclass(frozen=True, slots=True)
class Conditions:
    """What options say of the fleet; None: as in the file."""

    profile_name: str | None = None
    startup_seconds: float | None = None
    startup_p90_seconds: float | None = None
    failed_ratio: float = 0.0
    initial_replicas: int | None = None
    scrape_interval_seconds: float = 15.0
    rate_window_seconds: float = 60.0


def scenario_of(spec: ServiceSpec, path: Path, window: Window, conditions: Conditions) -> Scenario:
    """Return the scenario. Raises PlanFault for a file, a trace or a fleet that cannot be simulated."""
    from penstock.sim.check import check_scenario
    from penstock.sim.scenario import LARGEST_FLEET, Objectives, Routing, Scenario, Scraping, StartUp

    profile = _profile(spec, conditions.profile_name)
    ttft, tpot = judged(spec, Metric.TTFT), judged(spec, Metric.TPOT)
    if spec.replicas.max > LARGEST_FLEET:
        raise PlanFault(
            f"spec.replicas.max is {spec.replicas.max}: at most {LARGEST_FLEET} replicas are simulated",
            f"write at most {LARGEST_FLEET}, and thin the trace out as much",
        )
    trace = read_window(path, window)
    _require_lengths(trace, profile)
    startup = conditions.startup_seconds
    median = spec.replicas.initial_startup_seconds if startup is None else startup
    try:
        scenario = Scenario(
            name=path.name,
            arrivals_seconds=trace.arrivals,
            input_tokens=trace.inputs,
            output_tokens=trace.outputs,
            profile=profile,
            slo=Objectives(ttft.seconds, tpot.seconds),
            min_replicas=spec.replicas.min,
            max_replicas=spec.replicas.max,
            initial_replicas=spec.replicas.min,
            start_up=StartUp(median, conditions.startup_p90_seconds, conditions.failed_ratio),
            routing={
                Balancer.RANDOM: Routing.RANDOM,
                Balancer.ROUND_ROBIN: Routing.ROUND_ROBIN,
                Balancer.POWER_OF_TWO: Routing.POWER_OF_TWO,
                Balancer.LEAST_REQUESTS: Routing.LEAST_REQUESTS,
            }[spec.balancer],
            scraping=Scraping(
                conditions.scrape_interval_seconds, rate_window_seconds=conditions.rate_window_seconds
            ),
            # To the end of the window, also where its last seconds are silent.
            end_seconds=None
            if window.length_seconds is None
            else max(float(trace.arrivals[-1]), window.length_seconds / window.speed_up),
        )
        check_scenario(scenario)
        return _begun(spec, scenario, ttft, conditions.initial_replicas)
    except InvalidParameter as error:
        raise PlanFault(
            f"this cannot be simulated: {error}", "change the service, the trace or the options accordingly"
        ) from error


def judged(spec: ServiceSpec, metric: Metric) -> Objective:
    """Return the objective that single requests are judged by: the one of the highest percentile."""
    found = [each for each in spec.slo.objectives if each.metric is metric]
    if not found:
        raise PlanFault(
            f"spec.slo has no {metric}: each request is judged by its TTFT and its TPOT",
            "write both, for example slo: {ttft: {p95: 500ms}, tpot: {p95: 50ms}}",
        )
    return max(found, key=lambda each: each.percentile)


def _require_lengths(trace: Trace, profile: EngineProfile) -> None:
    """Raise PlanFault with the first line that no replica could serve, or that is not simulated."""
    from penstock.sim.check import LONGEST_TOKENS, whole_blocks

    require_room(trace, whole_blocks(profile.kv_capacity_tokens), profile.name)
    lengths = np.maximum(trace.inputs, trace.outputs)
    long = np.flatnonzero(lengths > LONGEST_TOKENS)
    if long.size:
        raise PlanFault(
            f"{trace.place(int(long[0]))}: {lengths[long[0]]:,} tokens, a prompt or an answer of at most "
            f"{LONGEST_TOKENS:,} is simulated",
            "leave such requests out",
        )


def _profile(spec: ServiceSpec, name: str | None) -> EngineProfile:
    if spec.engine.service_time is not None:
        raise PlanFault(
            "spec.engine.serviceTime: request/response services have no tokens to simulate",
            "give a service with an engine profile; penstock plan answers for request/response services",
        )
    try:
        if name is not None:
            return profile_named(name)
        require_offline_timing(spec)
        profile = resolve_engine(spec.engine).profile
    except UnknownProfile as error:
        where = "spec.engine.profile.name" if name is None else "--profile"
        raise PlanFault(
            f"{where}: no engine profile is named {error.name!r}", f"write one of {', '.join(error.closest)}"
        ) from error
    assert profile is not None  # noqa: S101 - only services with a service time have none
    return profile


def _begun(spec: ServiceSpec, scenario: Scenario, ttft: Objective, initial: int | None) -> Scenario:
    """Return the scenario with its first replicas and what its gateway lets in."""
    from dataclasses import replace

    from penstock.sim.policies.sizing import table_of

    try:
        table = table_of(scenario, percentile=ttft.percentile)
    except (ValueError, ArithmeticError) as error:
        raise PlanFault(f"the model has no answer: {error}", "correct spec.slo or the profile") from error
    if initial is None:
        early = np.searchsorted(scenario.arrivals_seconds, FIRST_SECONDS)
        span = min(FIRST_SECONDS, max(1.0, float(scenario.arrivals_seconds[-1])))
        initial = table.replicas_for(float(early) / span) + spec.replicas.spare
    elif not scenario.min_replicas <= initial <= scenario.max_replicas:
        raise PlanFault(
            f"--initial {initial}: spec.replicas is {scenario.min_replicas} to {scenario.max_replicas}",
            "write one between, or change spec.replicas",
        )
    first = min(max(initial, scenario.min_replicas), scenario.max_replicas)
    law = table.admission
    return replace(scenario, initial_replicas=first, admission=_admission(spec, law.running, law.queued))


def _admission(spec: ServiceSpec, running: int, queued: int) -> Admission | None:
    """Return the gateway's limit where the file has one that is enforced."""
    from penstock.sim.scenario import Admission

    asked = spec.admission
    enforced = spec.mode is Mode.ENFORCE and asked.mode is Mode.ENFORCE
    if spec.routing.type is not RoutingType.ENVOY or not enforced or asked.policy is AdmissionPolicy.OFF:
        return None
    if asked.policy is AdmissionPolicy.STATIC and asked.static_in_flight_per_replica is not None:
        return Admission(asked.static_in_flight_per_replica, 0)
    return Admission(running, queued)
