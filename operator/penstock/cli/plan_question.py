"""The question of a capacity plan (which engine, which load) and what replica counts answer to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from penstock.cli.plan_fault import PlanFault
from penstock.cli.plan_trace import WINDOW_SECONDS, replayed_part, require_room
from penstock.model.profiles import UnknownProfile
from penstock.model.spec import Metric, Objective, ProfileType, ServiceSpec, Slo
from penstock.policy.capacity_problem import resolve_engine, static_limit
from penstock.policy.feasibility import (
    Limits,
    admission_limits,
    enforced_limits,
    percentile,
    shed_by,
    sized_slo,
    worst,
)
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.engine_model import EngineModel, PoolPrediction
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.errors import QueueingError
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.trace_model import TraceModel
from penstock.queueing.traffic import TrafficShape
from penstock.traces.reading import Trace


@dataclass(frozen=True, slots=True)
class Traffic:
    """Offered load: requests per second, their lengths (None: no tokens), and where both come from.

    `requests` is the trace whose bursts are to be replayed; None for stationary arrivals.
    """

    rate_per_second: float
    shape: TrafficShape | None
    arrivals: Arrivals
    source: str
    requests: Trace | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replica count gives at a rate; `broken` names what it breaks most, None if all holds."""

    replicas: int
    rate_per_second: float
    prediction: PoolPrediction
    shed_fraction: float
    broken: str | None

    def seconds(self, objective: Objective) -> float:
        """Return the objective's percentile; inf beyond saturation."""
        value = percentile(self.prediction, objective)
        return math.inf if value is None else value


@dataclass(frozen=True, slots=True)
class Question:
    """One service under one load."""

    spec: ServiceSpec
    model: EngineModel
    profile: EngineProfile | None
    traffic: Traffic
    balancer: Balancer
    # Table, chart and plot look at the same counts, and a look is a replay of thousands of requests.
    _seen: dict[tuple[int, float], Outcome] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def slo(self) -> Slo:
        """What a count has to keep."""
        return sized_slo(self.spec.slo, turns_away=self.spec.turns_away)

    @property
    def limits(self) -> Limits:
        """What gateways enforce per replica: c* and each endpoint's own queue, or the user's number."""
        return enforced_limits(self._allowed, self.static_in_flight)

    @property
    def _allowed(self) -> Limits:
        return admission_limits(self.model, self.spec.slo)

    @property
    def static_in_flight(self) -> int | None:
        """The user's own limit per replica; None: the model's."""
        return static_limit(self.spec)

    @property
    def output_tokens_mean(self) -> float | None:
        """Tokens a request generates on average; None for request/response services."""
        return None if self.traffic.shape is None else self.traffic.shape.output_mean

    def at(self, replicas: int, rate_per_second: float) -> Outcome:
        """Return what this many replicas give at a rate (1/s)."""
        key = replicas, rate_per_second
        if key not in self._seen:
            prediction = self.model.pool(*key, balancer=self.balancer, arrivals=self.traffic.arrivals)
            self._seen[key] = self._outcome(replicas, rate_per_second, prediction)
        return self._seen[key]

    def sketch(self, replicas: int, rate_per_second: float) -> Outcome:
        """Return what `at` has shown already, else an estimate good to some percent: for curves."""
        key = replicas, rate_per_second
        if key in self._seen:
            return self._seen[key]
        prediction = self.model.quick_pool(*key, balancer=self.balancer, arrivals=self.traffic.arrivals)
        return self._outcome(replicas, rate_per_second, prediction)

    def _outcome(self, replicas: int, rate_per_second: float, prediction: PoolPrediction) -> Outcome:
        shed = shed_by(self.limits, self.model, replicas, rate_per_second, self.balancer)
        judged = shed
        if not self.spec.turns_away:
            judged = shed_by(self._allowed, self.model, replicas, rate_per_second, self.balancer)
        broken = worst(self.slo, prediction, judged)
        return Outcome(replicas, rate_per_second, prediction, shed, broken)

    def shown_objective(self, binding: str) -> Objective:
        """Return the latency objective to draw: the binding one, else TTFT's or the first."""
        objectives = self.spec.slo.objectives
        named = [each for each in objectives if each.name == binding]
        first_token = [each for each in objectives if each.metric is Metric.TTFT]
        return (named or first_token or list(objectives))[0]


def ask(spec: ServiceSpec, traffic: Traffic, balancer: Balancer | None) -> Question:
    """Return the question, with the engine's model built. Raises PlanFault where there is no model."""
    require_offline_timing(spec)
    try:
        engine = resolve_engine(spec.engine)
    except UnknownProfile as error:
        raise PlanFault(
            f"spec.engine.profile.name: no engine profile is named {error.name!r}",
            f"write one of the closest, {', '.join(error.closest)}, or an Inline profile",
        ) from error
    chosen = spec.balancer if balancer is None else balancer
    if engine.service_time is not None:
        timing = engine.service_time
        model: EngineModel = RequestModel(
            mean_seconds=timing.mean_seconds,
            scv=timing.scv,
            concurrency=timing.concurrency,
            max_batch=timing.max_batch,
            batch_scaling_ratio=timing.batch_scaling_ratio,
        )
        return Question(spec, model, None, traffic, chosen)
    assert engine.profile is not None and traffic.shape is not None  # noqa: S101, PT018 - checked by the command
    _require_room(engine.profile, traffic)
    try:
        replica = ReplicaModel(engine.profile, traffic.shape)
        _require_decoding(replica)
        model = replica if traffic.requests is None else _replayed(engine.profile, traffic.requests)
    except QueueingError as error:
        raise PlanFault(f"spec.engine.profile: {error}", "correct the profile or the token counts") from error
    return Question(spec, model, engine.profile, traffic, chosen)


def _replayed(profile: EngineProfile, requests: Trace) -> TraceModel:
    model = TraceModel.busiest(
        profile,
        requests.arrivals,
        requests.inputs.astype(np.float64),
        requests.outputs.astype(np.float64),
        window_seconds=WINDOW_SECONDS,
    )
    seen = replayed_part(requests, before=model.counted.start, replayed=model.arrivals.size)
    require_room(seen, int(profile.kv_capacity_tokens), profile.name)
    return model


def require_offline_timing(spec: ServiceSpec) -> None:
    """Raise PlanFault for a service whose timing is learned from a cluster: a plan has none."""
    if spec.engine.service_time is None and spec.engine.profile_type is ProfileType.LEARNED:
        raise PlanFault(
            "spec.engine.profile: type Learned takes its timing from a running engine, a plan has none",
            "write engine: {profile: {type: Named, name: llama-3.1-8b-h100}}, an Inline profile, or for a "
            'request/response service engine: {serviceTime: {mean: 5ms, scv: "0.1", concurrency: 1}}',
        )


def _require_room(profile: EngineProfile, traffic: Traffic) -> None:
    assert traffic.shape is not None  # noqa: S101 - checked by the command
    held = traffic.shape.kv_resident_tokens
    if profile.kv_capacity_tokens < held:
        shorter = "smaller --input-tokens and --output-tokens"
        if traffic.requests is not None:
            shorter = "drop the longest requests of that minute from the trace"
        raise PlanFault(
            f"a sequence holds {held:,.0f} tokens of context on average, the KV memory of {profile.name} "
            f"{profile.kv_capacity_tokens:,.0f}",
            f"choose a profile with more memory, or {shorter}",
        )


def _require_decoding(replica: ReplicaModel) -> None:
    # Below one sequence at a time the step law's balance of prompts and tokens has no solution.
    if replica.concurrency_limit < 1:
        shape = replica.shape
        raise PlanFault(
            f"{shape.output_mean:.3g} output tokens on prompts of {shape.input_mean:,.0f}: there is nothing "
            "to decode beside the prompts",
            "plan it as a request/response service (engine.serviceTime), or for longer answers",
        )
