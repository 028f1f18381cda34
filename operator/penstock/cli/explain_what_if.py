"""What one replica more or less would give: the model that decisions are made with, at the load of now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.cli.explain_read import Lengths, Live, Measured
from penstock.cli.plan_question import Outcome, Question, Traffic
from penstock.model.conditions import ConditionType, Status, read_conditions
from penstock.model.profiles import UnknownProfile
from penstock.model.spec import ServiceSpec
from penstock.policy.capacity_problem import Engine, resolve_engine
from penstock.policy.lengths import LengthMoments
from penstock.policy.step_factors import AS_PROFILED, StepFactors, engine_with_factors
from penstock.queueing.balancer import Arrivals
from penstock.queueing.engine_model import EngineModel
from penstock.queueing.errors import QueueingError
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.service_time_model import RequestModel
from penstock.queueing.traffic import TrafficShape

GIVEN, STATUS = "as given", "status"
GIVE_LENGTHS = "give --input-tokens and --output-tokens"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the model is asked: a load, an engine as it was learned, and the count decided."""

    spec: ServiceSpec
    engine: Engine
    decided: int
    rate_per_second: float
    rate_source: str
    lengths: Lengths | None  # None: requests without tokens
    factors: StepFactors
    followed: bool = True  # by the operator: not while measurements contradict the model
    not_measured: str = ""  # why Prometheus, which was asked, is the source of less than it could be

    @property
    def of_now(self) -> bool:
        """Whether the rate is what was measured; decisions add what is expected within the lead time."""
        return self.rate_source != GIVEN


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Outcomes of the count that was decided and of its neighbours."""

    asked: Asked
    outcomes: tuple[Outcome, ...]


def what_if(
    live: Live, *, rate: float | None, lengths: Lengths | None, measured: Measured | None
) -> WhatIf | str:
    """Return what neighbouring counts give, or why that cannot be told; takes seconds.

    `rate` (1/s) and `lengths` are what the user gave; then what was measured counts, then the status.
    """
    asked = what_to_ask(live, rate=rate, lengths=lengths, measured=measured)
    return asked if isinstance(asked, str) else _answer(asked)


def what_to_ask(
    live: Live, *, rate: float | None, lengths: Lengths | None, measured: Measured | None
) -> Asked | str:
    """Return the question, or what it lacks and how to give that."""
    spec, status, seen = live.spec, live.status, measured or Measured()
    if spec is None:
        return f"the spec cannot be read: {live.fault}"
    replicas = status.get("replicas") or {}
    decided = replicas.get("desired") or replicas.get("current")
    if not decided:
        return "status has no replica count: nothing has been decided yet"
    found_rate = _rate(status, rate, seen)
    if found_rate is None:
        return _why("status has no rate of requests", seen.why_no_rate, "give --rate")
    if not found_rate[0] > 0:
        return _why("no requests now", seen.why_no_rate, "give --rate")
    try:
        engine = resolve_engine(spec.engine)
    except UnknownProfile as error:
        return f"there is no engine profile {error.name!r}: correct spec.engine.profile.name"
    factors = _factors(status.get("learned") or {})
    if engine.is_reference and factors is None:
        return "the engine's timing is still being learned (engine.profile.type Learned): wait for traffic"
    if engine.service_time is not None:
        known = None
    else:
        known = lengths or seen.lengths or _learned_lengths(status)
        if known is None:
            missing = "the lengths of requests have not been learned yet"
            return _why(missing, seen.why_no_lengths, GIVE_LENGTHS)
    return Asked(
        spec,
        engine,
        int(decided),
        *found_rate,
        known,
        factors or AS_PROFILED,
        followed=_is_followed(status),
        not_measured=_not_measured(seen, found_rate[1], known),
    )


def _answer(asked: Asked) -> WhatIf | str:
    lengths, rate = asked.lengths, asked.rate_per_second
    shape = None
    if lengths is not None:
        shape = TrafficShape.lognormal(
            lengths.input.mean,
            lengths.output.mean,
            input_scv=lengths.input.scv,
            output_scv=lengths.output.scv,
        )
    traffic = Traffic(rate, shape, Arrivals.POISSON, asked.rate_source)
    counts = [count for count in (asked.decided - 1, asked.decided, asked.decided + 1) if count >= 1]
    try:
        model = _model(asked.engine, shape, asked.factors)
        question = Question(asked.spec, model, asked.engine.profile, traffic, asked.spec.balancer)
        outcomes = tuple(question.at(count, rate) for count in counts)
    except QueueingError as error:
        return f"the model has no solution for this load: {error}"
    return WhatIf(asked, outcomes)


def _model(engine: Engine, shape: TrafficShape | None, factors: StepFactors) -> EngineModel:
    """Return the model of one replica. Raises `QueueingError` where it has no solution."""
    timing = engine.service_time
    if timing is not None:
        return RequestModel(
            mean_seconds=timing.mean_seconds,
            scv=timing.scv,
            concurrency=timing.concurrency,
            max_batch=timing.max_batch,
            batch_scaling_ratio=timing.batch_scaling_ratio,
        )
    assert engine.profile is not None and shape is not None  # noqa: S101, PT018 - lengths were asked for
    return ReplicaModel(engine_with_factors(engine.profile, factors), shape)


def _rate(status: Mapping[str, Any], given: float | None, seen: Measured) -> tuple[float, str] | None:
    if given is not None:
        return given, GIVEN
    if seen.rate_per_second is not None:
        return seen.rate_per_second, "Prometheus, now"
    load = status.get("load") or {}
    shown = _number(load.get("arrivalRate"))
    return None if shown is None else (shown, STATUS)


def _factors(learned: Mapping[str, Any]) -> StepFactors | None:
    """Return the factors that decisions are computed for; None while nothing has been measured."""
    fitted = [_number(learned.get(name)) for name in ("overheadRatio", "computeRatio", "memoryRatio")]
    known = [each for each in fitted if each is not None and each > 0]
    if len(known) == len(fitted):
        return StepFactors(*known)
    speed = _number(learned.get("speedRatio"))
    return StepFactors.even(speed) if speed is not None and speed > 0 else None


def _is_followed(status: Mapping[str, Any]) -> bool:
    trusted = {each.type: each.status for each in read_conditions(status)}.get(ConditionType.MODEL_TRUSTED)
    return trusted is not Status.FALSE


def _not_measured(seen: Measured, rate_source: str, lengths: Lengths | None) -> str:
    """Say why status stands in for Prometheus; empty where it does not."""
    reasons = [seen.why_no_rate] if rate_source == STATUS else []
    if lengths is not None and lengths.source == STATUS:
        reasons.append(seen.why_no_lengths)
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _learned_lengths(status: Mapping[str, Any]) -> Lengths | None:
    """Return the lengths that the operator decides by."""
    learned = status.get("learned") or {}
    numbers = [
        _number(learned.get(name)) for name in ("inputTokens", "inputScv", "outputTokens", "outputScv")
    ]
    prompt, prompt_scv, answer, answer_scv = numbers
    if (
        prompt is None
        or prompt_scv is None
        or answer is None
        or answer_scv is None
        or min(prompt, answer) < 1
    ):
        return None
    return Lengths(LengthMoments(prompt, prompt_scv), LengthMoments(answer, answer_scv), STATUS)


def _why(head: str, why: str, fix: str) -> str:
    return f"{head}; {why}: {fix}" if why else f"{head}: {fix}"


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
