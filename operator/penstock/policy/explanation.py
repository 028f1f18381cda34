"""A verdict and its sentence: the numbers that decided, and what one replica fewer would give.

The sentence is built only when it will be shown: at 10,000 services a tick that saves a fifth of the
time, and a shown message keeps its numbers until value or reason changes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from penstock.model.decision import Decision, Reason
from penstock.model.spec import Objective, ServiceSpec
from penstock.model.value import value
from penstock.policy import wording
from penstock.policy.demand import Demand
from penstock.policy.estimate import Capacity, Estimate, NothingToCarry
from penstock.policy.stabilization import DOWN_MARGIN


@value(frozen=True, slots=True)
class Verdict:
    """A replica count (None: write nothing), why, and the sentence on demand."""

    value: int | None
    reason: Reason
    say: Callable[[], str]
    estimate: Estimate | None = None  # what it rests on, where the model decided
    binding: str = ""  # what binds instead of the model, where a sentence of the same reason may not stay

    def decision(self) -> Decision[int]:
        """Return the decision with its sentence, the inputs that mattered and what binds."""
        inputs, binding = ({}, self.binding) if self.estimate is None else _inputs(self.estimate)
        return Decision(self.value, self.reason, self.say(), inputs, binding)


_OF_THE_MODEL = frozenset({Reason.LATENCY_OBJECTIVE, Reason.AVAILABILITY_OBJECTIVE, Reason.SATURATION})
_WATCHED_WINDOW = "window"
_REASON_OF_BINDING = {
    "availability": Reason.AVAILABILITY_OBJECTIVE,
    "saturation": Reason.SATURATION,
    "minimum": Reason.AT_MINIMUM,
}


def paused() -> Verdict:
    """Nothing is decided while the mode is Paused."""
    return Verdict(None, Reason.PAUSED, lambda: "paused: nothing is changed until mode is Enforce again")


def target_missing(spec: ServiceSpec) -> Verdict:
    """The workload is not there."""
    where = f"{spec.target} does not exist in namespace {spec.key.namespace}"
    return Verdict(None, Reason.TARGET_MISSING, lambda: f"{where}: create it or correct workload.targetRef")


def scaled_to_zero(spec: ServiceSpec) -> Verdict:
    """Somebody switched the workload off, as with an HPA that is not ours to undo."""
    message = (
        f"{spec.target} is at 0 replicas, somebody switched it off: scale it to 1 or more to hand it back"
    )
    return Verdict(None, Reason.SCALED_TO_ZERO, lambda: message)


def held(estimate: Estimate, value: int, target: int) -> Verdict:
    """There is nothing to decide from: keep the target in force, inside the user's bounds."""
    reason = Reason.LEARNING if estimate.learning else Reason.METRICS_MISSING
    how = "held" if value == target else "(replicas.min)" if value > target else "(replicas.max)"
    return Verdict(value, reason, lambda: f"{wording.replicas(value)} {how}: {estimate.missing}")


def sized(
    spec: ServiceSpec, estimate: Estimate, *, needed: int, value: int, said: Decision[int] | None
) -> Verdict:
    """The model's count (`needed`, without spare) inside the bounds.

    `said` is what was decided last: while the model wants the same count, its reason stands.
    """
    capacity, demand = _believed(estimate)
    bounds = spec.replicas
    wanted = needed + bounds.spare
    if wanted > bounds.max:
        reason = Reason.AT_MAXIMUM
    elif wanted < bounds.min:
        reason = Reason.AT_MINIMUM
    elif estimate.backlog_per_second > demand.rise_per_second:
        reason = Reason.BACKLOG
    elif (
        said is not None
        and said.value == value
        and isinstance(said.reason, Reason)
        and said.reason in _OF_THE_MODEL
    ):
        reason = said.reason
    else:
        reason = reason_of_binding(capacity.binding(needed, estimate.rate_to_serve))

    def say() -> str:
        if reason is Reason.AT_MAXIMUM:
            head = f"{wording.replicas(value)} (replicas.max), {wanted} needed"
            return f"{head}: {_load(estimate)}, {_consequence(spec, estimate, value)}"
        if wanted < bounds.min:
            return f"{wording.replicas(value)} (replicas.min): {_load(estimate)}, {wanted} would do"
        spare = f" ({bounds.spare} of them spare)" if bounds.spare else ""
        if isinstance(capacity, NothingToCarry):
            return f"{wording.replicas(value)}{spare}: no requests, and none have been seen"
        return f"{wording.replicas(value)}{spare}: {_load(estimate)}, {_consequence(spec, estimate, needed)}"

    return Verdict(value, reason, say, estimate)


def kept(value: int, would_do: int, reason: Reason, why: str) -> Verdict:
    """Fewer would do, a rule keeps the target in force."""
    return Verdict(value, reason, lambda: f"{wording.replicas(value)} kept, {would_do} would do: {why}")


def not_watched(value: int, would_do: int, window_seconds: float) -> Verdict:
    """Fewer would do, nobody knows yet whether for the whole window."""
    why = f"the last {wording.span(window_seconds)} have not been watched in full"
    return kept(value, would_do, Reason.STABILIZING, why)


def stabilizing(value: int, would_do: int, window_seconds: float) -> Verdict:
    """Fewer would do, but the window needed as many."""
    verdict = kept(value, would_do, Reason.STABILIZING, _window_needs(window_seconds, value))
    return replace(verdict, binding=_WATCHED_WINDOW)


def as_far_as_agreed(value: int, would_do: int, window_seconds: float) -> Verdict:
    """Fewer, but as many as the window still asks for."""

    def say() -> str:
        return f"{wording.replicas(value)}, {would_do} would do: {_window_needs(window_seconds, value)}"

    return Verdict(value, Reason.STABILIZING, say, binding=_WATCHED_WINDOW)


def foreign_floor(spec: ServiceSpec, floor: int, would_do: int, until: float) -> Verdict:
    """Somebody raised the target; that is kept until a time."""
    clock = datetime.fromtimestamp(until, UTC).strftime("%H:%M:%S UTC")
    return kept(
        floor, would_do, Reason.FOREIGN_SCALE_UP, f"somebody scaled {spec.target} up, kept until {clock}"
    )


def rate_limited(verdict: Verdict, value: int, most: int) -> Verdict:
    """More is wanted than may be added in this minute."""
    return replace(
        verdict,
        value=value,
        reason=Reason.RATE_LIMITED,
        say=lambda: (
            f"{value} of {verdict.value} for now, replicas.maxAddedPerMinute is {most}; {verdict.say()}"
        ),
    )


def reason_of_binding(binding: str) -> Reason:
    """Return the reason of a count that the model's constraint `binding` decides."""
    return _REASON_OF_BINDING.get(binding, Reason.LATENCY_OBJECTIVE)


def _window_needs(window_seconds: float, count: int) -> str:
    """Say that so many were needed, in words that hold for as long as the verdict does.

    The margin is named: at a steady load that leaves less than it, one fewer "would do" for ever.
    """
    margin = wording.percent(DOWN_MARGIN - 1)
    return f"with {margin} of room, {count} were needed within the last {wording.span(window_seconds)}"


def _inputs(estimate: Estimate) -> tuple[Mapping[str, float], str]:
    """Return the inputs that mattered, by name with units, and what binds at the count they need."""
    capacity, demand = _believed(estimate)
    inputs = {
        "offered_per_second": demand.offered_per_second,
        "rise_per_second": demand.rise_per_second,
        "backlog_per_second": estimate.backlog_per_second,
        "lead_seconds": demand.lead_seconds,
        "speed_ratio": estimate.speed_ratio,
    }
    rate = estimate.rate_to_serve
    return inputs, capacity.binding(capacity.replicas_for(rate), rate)


def _believed(estimate: Estimate) -> tuple[Capacity, Demand]:
    """Return capacity and demand of an estimate that has both."""
    if estimate.capacity is None or estimate.demand is None:
        raise ValueError("an estimate without capacity or demand cannot be sized")
    return estimate.capacity, estimate.demand


def _load(estimate: Estimate) -> str:
    """Say what is to be served: ``at 17.2 req/s + 2.1 expected within 2m``."""
    _, demand = _believed(estimate)
    text = f"at {wording.rate(demand.offered_per_second)} req/s"
    text += f" + {wording.rate(demand.rise_per_second)} expected within {wording.span(demand.lead_seconds)}"
    if estimate.backlog_per_second > 0:
        text += f" + {wording.rate(estimate.backlog_per_second)} to clear the queue"
    return text


def _consequence(spec: ServiceSpec, estimate: Estimate, count: int) -> str:
    """Say what one replica fewer and this count give, in the measure that binds."""
    capacity, _ = _believed(estimate)
    rate = estimate.rate_to_serve
    binding = capacity.binding(count, rate)
    target = next((each for each in spec.slo.objectives if each.name == binding), None)
    if target is None:
        most = f"{wording.rate(capacity.max_rate(count))} req/s"
        if count == 1:
            return f"{_carry(1)} up to {most}"
        fewer = f"{_carry(count - 1)} up to {wording.rate(capacity.max_rate(count - 1))} req/s"
        return f"{fewer}, {count} up to {most}"
    here = _gives(capacity, target, count, rate)
    return here if count == 1 else f"{_gives(capacity, target, count - 1, rate)}, {here}"


def _carry(count: int) -> str:
    return "1 carries" if count == 1 else f"{count} carry"


def _gives(capacity: Capacity, target: Objective, count: int, rate: float) -> str:
    """Say a percentile against its objective: ``4 give p95 TTFT 820 ms > 500 ms``."""
    value = capacity.predict(target, count, rate)
    sign = ">" if value > target.seconds else "<="
    against = f"{wording.objective(target)} {wording.seconds(value)} {sign} {wording.seconds(target.seconds)}"
    return f"1 gives {against}" if count == 1 else f"{count} give {against}"
