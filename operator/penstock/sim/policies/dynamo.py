"""NVIDIA Dynamo's planner for aggregated workers: a forecast every three minutes, over what one worker does.

    worker = largest b/(osl step) with step = T(b isl/osl prefill, b contexts) <= ITL, TTFT behind one such
    step's prompts <= SLA, b <= KV/context, slots and what prefill keeps up with;  n = ceil(rate/worker)
    load loop: +1 when every engine's TTFT, or every engine's ITL, would miss; -1 when one fewer would do

Source: ai-dynamo/dynamo components/src/dynamo/planner, core/perf_model/agg.py and core/load_scaling.py; the
loop (5 s, `sla` target) is an option. ceil(TTFT/SLA) is its prefill pools' term, there are none here. Two
things are not its own: it predicts by ARIMA (from five intervals on), here by `constant`, the last interval,
which it offers too; and it learns a step's time by regression, here it knows the profile's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policy_port import ReplicaGauges, Signals
from penstock.sim.scenario import Objectives

THROUGHPUT_SECONDS, LOAD_SECONDS = 180.0, 5.0
DOWN_SENSITIVITY = 0.8


@dataclass(frozen=True, slots=True)
class Shape:
    """Means of an interval, in tokens; `prefill_per_step` is what an engine's step had of prompts."""

    inputs: float
    outputs: float
    prefill_per_step: float

    @property
    def context(self) -> float:
        """What a running sequence holds, on average."""
        return self.inputs + self.outputs / 2


class Dynamo:
    """The planner; `itl_ratio` scales the ITL it sizes for, no `load_loop_seconds`: no such loop."""

    def __init__(
        self,
        profile: EngineProfile,
        slo: Objectives,
        *,
        itl_ratio: float = 1.0,
        load_loop_seconds: float | None = None,
    ) -> None:
        self.name = "Dynamo" if load_loop_seconds is None else "Dynamo with load loop"
        self.interval_seconds = load_loop_seconds or THROUGHPUT_SECONDS
        self._profile = profile
        self._slo = Objectives(slo.ttft_seconds, slo.tpot_seconds * itl_ratio)
        self._shape: Shape | None = None
        self._floor: int | None = None
        self._next = 0.0

    def decide(self, seen: Signals) -> int:
        """Return the throughput plan, raised or lowered by the load loop where there is one."""
        if seen.at >= self._next:
            self._next = seen.at + THROUGHPUT_SECONDS
            self._plan(seen)
        if self.interval_seconds == THROUGHPUT_SECONDS or not seen.replicas:
            return seen.target if self._floor is None else self._floor
        wanted = seen.target
        if self._shape is not None and not seen.starting:  # while a scale is in progress it only looks on
            pods = [each for each in seen.replicas if not each.draining]
            wanted += load_step(self._profile, self._slo, self._shape, pods)
        return max(wanted, self._floor or 1)

    def _plan(self, seen: Signals) -> None:
        rates = seen.rates(THROUGHPUT_SECONDS)
        if rates is None or min(rates.engine.requests, rates.engine.generation_tokens) <= 0:
            return  # no traffic or no data: it keeps its plan
        engine = rates.engine
        self._shape = Shape(
            engine.prompt_tokens / engine.requests,
            engine.generation_tokens / engine.requests,
            engine.prompt_tokens / engine.steps,
        )
        each = worker_rate(self._profile, self._slo, self._shape.inputs, self._shape.outputs)
        # Its front end counts requests as they come; what a full pool serves would never ask for more.
        rate = seen.offered_rate_over(THROUGHPUT_SECONDS)
        self._floor = max(1, math.ceil((engine.requests if rate is None else rate) / each - 1e-9))


def worker_rate(profile: EngineProfile, slo: Objectives, inputs: float, outputs: float) -> float:
    """Return the requests/s of one aggregated worker at the largest batch within both objectives."""
    budget, context = profile.step_token_budget, inputs + outputs / 2
    most = int(min(profile.max_sequences, profile.kv_capacity_tokens / context, budget - inputs / outputs))
    rate = 0.0
    for batch in range(1, max(1, most) + 1):
        prompts, kv = min(batch * inputs / outputs, budget), batch * context
        step = _step(profile, prompts, inputs, batch, kv)
        first = first_token_seconds(profile, prompts, inputs, batch, kv)
        late = step > slo.tpot_seconds or first > slo.ttft_seconds
        if late and batch > 1:
            break
        rate = batch / (outputs * step)
        if late:
            break  # not even one is in time: it plans with one
    return rate


def first_token_seconds(
    profile: EngineProfile, queued: float, inputs: float, sequences: float, kv_tokens: float
) -> float:
    """Return the time of a prompt's steps behind `queued` prompt tokens, with what decodes beside them."""
    full, rest = divmod(queued + inputs, profile.step_token_budget)
    seconds = full * _step(profile, profile.step_token_budget, inputs, sequences, kv_tokens)
    return seconds + (_step(profile, rest, inputs, sequences, kv_tokens) if rest else 0.0)


def load_step(profile: EngineProfile, slo: Objectives, shape: Shape, pods: list[ReplicaGauges]) -> int:
    """Return +1, 0 or -1 for what waits and runs at each engine."""
    if not pods:
        return 0
    ttft = [_next_ttft(profile, shape, each, 1.0, queued=each.waiting * shape.inputs) for each in pods]
    itl = [_next_itl(profile, shape, each.running, _kv_tokens(profile, each)) for each in pods]
    if min(ttft) > slo.ttft_seconds or min(itl) > slo.tpot_seconds:
        return 1
    count = len(pods)
    if count < 2:
        return 0
    return -1 if all(_bears(profile, slo, shape, each, count / (count - 1)) for each in pods) else 0


def _bears(profile: EngineProfile, slo: Objectives, shape: Shape, pod: ReplicaGauges, share: float) -> bool:
    """Whether an engine keeps the objectives, with room, at `share` times what it has."""
    queued = pod.waiting * shape.inputs
    own = _next_ttft(profile, shape, pod, share, queued=0.0)
    behind = _next_ttft(profile, shape, pod, share, queued=queued * share) - own
    held = (_kv_tokens(profile, pod) + queued) * share
    return (
        behind < DOWN_SENSITIVITY * (slo.ttft_seconds - own)
        and held < profile.kv_capacity_tokens
        and _next_itl(profile, shape, pod.running * share, held) < DOWN_SENSITIVITY * slo.tpot_seconds
    )


def _next_ttft(
    profile: EngineProfile, shape: Shape, pod: ReplicaGauges, share: float, *, queued: float
) -> float:
    kv_tokens = _kv_tokens(profile, pod) * share
    return first_token_seconds(profile, queued, shape.inputs, pod.running * share, kv_tokens)


def _next_itl(profile: EngineProfile, shape: Shape, running: float, kv_tokens: float) -> float:
    """Return a step's time with one sequence more than there is."""
    prompts = min(shape.prefill_per_step, profile.step_token_budget)
    return _step(profile, prompts, shape.inputs, running + 1, kv_tokens + shape.context)


def _kv_tokens(profile: EngineProfile, pod: ReplicaGauges) -> float:
    return profile.kv_capacity_tokens * pod.kv_usage_ratio


def _step(profile: EngineProfile, prefill: float, inputs: float, sequences: float, kv_tokens: float) -> float:
    """Return the time of a step with `prefill` tokens out of prompts of `inputs` tokens."""
    return profile.step_law.seconds_of_one(
        prefill_tokens=prefill,
        decode_sequences=sequences,
        attention_token_pairs=prefill * inputs / 2,  # a token of a prompt sees half of it, on average
        kv_tokens=kv_tokens,
    )
