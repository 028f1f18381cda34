"""The answer of a capacity plan: the count, what binds it, what it costs; and its JSON form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from penstock.cli.plan_fault import NoPlan
from penstock.cli.plan_question import Question
from penstock.model.spec import Objective
from penstock.policy import wording
from penstock.policy.engine_flags import engine_flags
from penstock.policy.feasibility import MINIMUM, ObjectiveUnreachable
from penstock.policy.sizing import Sizing, evaluate, size
from penstock.queueing.arithmetic import cost_per_million_tokens
from penstock.queueing.distribution import Distribution

MOST_REPLICAS = 10_000  # the highest replicas.max that the resource takes


@dataclass(frozen=True, slots=True)
class Plan:
    """A sizing of a question; `needed` is the model's count before replicas.min, None if N was given."""

    question: Question
    sizing: Sizing
    needed: int | None

    @property
    def rate_per_second(self) -> float:
        """Offered requests per second."""
        return self.question.traffic.rate_per_second

    @property
    def stable(self) -> bool:
        """Whether latencies are finite at `replicas`."""
        return math.isfinite(self.sizing.prediction.latency.mean)

    @property
    def cost_per_hour(self) -> float | None:
        """Cost of all replicas, the spare ones included: what is paid."""
        cost = self.question.spec.cost
        return None if cost is None else cost.per_replica_hour * self.sizing.replicas_with_spare

    @property
    def output_tokens_per_second(self) -> float | None:
        """Output tokens of the requests that are admitted; None without tokens or without a steady state."""
        tokens = self.question.output_tokens_mean
        if tokens is None or not self.stable:
            return None
        shed = self.sizing.shed_fraction if self.question.spec.turns_away else 0.0
        return self.rate_per_second * (1 - shed) * tokens

    @property
    def cost_per_million_tokens(self) -> float | None:
        """Hourly cost over a million output tokens; None where a part is not known."""
        cost, tokens = self.cost_per_hour, self.output_tokens_per_second
        return None if cost is None or not tokens else cost_per_million_tokens(cost, tokens)

    @property
    def engine_flags(self) -> list[str]:
        """Flags that limit one replica; empty for request/response services and unknown engines."""
        if self.question.profile is None:
            return []
        sizing, engine = self.sizing, self.question.spec.engine.type
        return engine_flags(engine, running=sizing.running_limit, queued=sizing.queue_limit)

    def as_json(self) -> dict[str, object]:
        """Return the keys of ``-o json``; what does not apply is None."""
        sizing = self.sizing
        prediction = sizing.prediction
        kv = sizing.kv_concurrency
        return {
            "rate_per_second": self.rate_per_second,
            "replicas": sizing.replicas,
            "replicas_with_spare": sizing.replicas_with_spare,
            "binding": sizing.binding,
            "utilization": prediction.utilization,
            "ttft_seconds": _percentiles(prediction.ttft),
            "tpot_seconds": _percentiles(prediction.tpot),
            "latency_seconds": _percentiles(prediction.latency),
            "max_rate_per_replica": sizing.max_rate_per_replica,
            "saturation_rate_per_replica": sizing.saturation_rate_per_replica,
            "running_limit": sizing.running_limit,
            "queue_limit": sizing.queue_limit,
            "kv_concurrency": None if kv is None else math.floor(kv),
            "shed_fraction": sizing.shed_fraction,
            "engine_flags": self.engine_flags,
            "cost_per_million_tokens": self.cost_per_million_tokens,
            "cost_per_hour": self.cost_per_hour,
        }


def make_plan(question: Question, replicas: int | None) -> Plan:
    """Return the plan with the fewest replicas, or for `replicas`. Raises NoPlan where no count will do."""
    spec, traffic = question.spec, question.traffic
    if replicas is not None:
        sizing = evaluate(
            question.model,
            question.slo,
            traffic.rate_per_second,
            replicas,
            balancer=question.balancer,
            arrivals=traffic.arrivals,
            spare=spec.replicas.spare,
            turns_away=spec.turns_away,
            static_in_flight=question.static_in_flight,
        )
        return Plan(question, sizing, None)
    try:
        sizing = size(
            question.model,
            question.slo,
            traffic.rate_per_second,
            balancer=question.balancer,
            arrivals=traffic.arrivals,
            spare=spec.replicas.spare,
            turns_away=spec.turns_away,
            static_in_flight=question.static_in_flight,
            max_replicas=MOST_REPLICAS,
        )
    except ObjectiveUnreachable as error:
        raise _no_plan(question, error) from error
    needed = sizing.replicas
    least = spec.replicas.min - spec.replicas.spare
    if needed < least:
        raised = make_plan(question, least)
        return Plan(question, replace(raised.sizing, binding=MINIMUM), needed)
    return Plan(question, sizing, needed)


def warnings(plan: Plan) -> list[str]:
    """Return what a reader of the plan must not miss, one sentence each."""
    said = []
    sizing, bounds = plan.sizing, plan.question.spec.replicas
    if plan.needed is not None and sizing.replicas_with_spare > bounds.max:
        spare = f" ({sizing.replicas} and {bounds.spare} spare)" if bounds.spare else ""
        said.append(
            f"{wording.replicas(sizing.replicas_with_spare)} are needed{spare}, spec.replicas.max is "
            f"{bounds.max}: the operator would stop there; raise it or lower the load"
        )
    if plan.needed is None and not sizing.feasible:
        said.append(f"{wording.replicas(sizing.replicas)} will not do: {broken_sentence(plan)}")
    return said


def broken_sentence(plan: Plan) -> str:
    """Say what the plan's count breaks: ``p95 TTFT 820 ms > 500 ms``."""
    sizing = plan.sizing
    objective = objective_named(plan.question, sizing.binding)
    if objective is not None:
        value = plan.question.at(sizing.replicas, plan.rate_per_second).seconds(objective)
        return (
            f"{wording.objective(objective)} {wording.seconds(value)} > {wording.seconds(objective.seconds)}"
        )
    if sizing.binding == "availability":
        allowed = 1 - plan.question.spec.slo.availability_ratio
        return f"would turn away {sizing.shed_fraction:.2%} of the requests, {allowed:.2%} are allowed"
    capacity = sizing.replicas * sizing.saturation_rate_per_replica
    offered = wording.rate(plan.rate_per_second)
    return f"saturated: they carry {wording.rate(capacity)} req/s, {offered} are offered"


def objective_named(question: Question, name: str) -> Objective | None:
    """Return the objective of that name; None for what is not a latency."""
    return next((each for each in question.spec.slo.objectives if each.name == name), None)


def _percentiles(times: Distribution | None) -> dict[str, float] | None:
    if times is None or not math.isfinite(times.mean):
        return None
    return {"mean": times.mean, "p50": times.p50, "p90": times.p90, "p95": times.p95, "p99": times.p99}


def _no_plan(question: Question, error: ObjectiveUnreachable) -> NoPlan:
    objective = objective_named(question, error.objective)
    if objective is None:
        each = question.model.saturation_rate_per_second
        offered = wording.rate(question.traffic.rate_per_second)
        return NoPlan(
            f"no count up to {MOST_REPLICAS:,} replicas carries {offered} "
            f"req/s ({error.objective}): one replica saturates at {wording.rate(each)} req/s",
            "split the service, or choose a faster engine",
        )
    asked, best = wording.seconds(objective.seconds), wording.seconds(error.best_seconds)
    return NoPlan(
        f"no replica count keeps {objective.name}: {wording.objective(objective)} <= {asked} is asked, "
        f"the best is {best} {error.why}",
        # Whole milliseconds, upwards: what the resource takes, and never below the best.
        f"state at least {math.ceil(1000 * error.best_seconds)}ms, or plan for a faster engine or "
        f"shorter requests",
    )
