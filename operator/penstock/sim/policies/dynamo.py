"""NVIDIA Dynamo's planner for aggregated workers: a forecast every three minutes, over what one worker does.

    b = most sequences with step(b) <= ITL;  a request takes step(prompt) + osl step(b)/b of a worker
    n = ceil(rate x that);  with the load loop: +1 when every engine's TTFT or ITL would miss

Source: ai-dynamo/dynamo components/src/dynamo/planner. Throughput mode is its default, the load loop (5 s)
an option. Its predictor defaults to ARIMA, which needs history; here it is `constant`, the last interval's,
which its documentation offers too.
"""

from __future__ import annotations

import math

from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policy_port import Signals
from penstock.sim.scenario import Objectives

THROUGHPUT_SECONDS, LOAD_SECONDS = 180.0, 5.0
DOWN_SENSITIVITY = 0.8


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
        self._profile, self._slo, self._itl = profile, slo, slo.tpot_seconds * itl_ratio
        self._lengths: tuple[float, float] | None = None
        self._floor: int | None = None
        self._next = 0.0

    def decide(self, seen: Signals) -> int:
        """Return the throughput plan, raised or lowered by the load loop where there is one."""
        if seen.at >= self._next:
            self._next = seen.at + THROUGHPUT_SECONDS
            self._plan(seen)
        if self.interval_seconds == THROUGHPUT_SECONDS or not seen.replicas:
            return seen.target if self._floor is None else self._floor
        wanted = seen.target if seen.starting else seen.target + self._load_step(seen)
        return max(wanted, self._floor or 1)

    def _plan(self, seen: Signals) -> None:
        rates = seen.rates(THROUGHPUT_SECONDS)
        if rates is None or rates.engine.requests <= 0:
            return  # no traffic or no data: it keeps its plan
        engine = rates.engine
        inputs, outputs = engine.prompt_tokens / engine.requests, engine.generation_tokens / engine.requests
        self._lengths = inputs, outputs
        seconds = worker_seconds(self._profile, inputs, outputs, self._itl)
        # Its front end counts requests as they come; what a full pool serves would never ask for more.
        rate = seen.offered_rate_over(THROUGHPUT_SECONDS)
        self._floor = max(1, math.ceil((engine.requests if rate is None else rate) * seconds - 1e-9))

    def _load_step(self, seen: Signals) -> int:
        if self._lengths is None:
            return 0
        inputs, outputs = self._lengths
        context = inputs + outputs / 2
        own = _step(self._profile, inputs, 0.0, context)
        pods = [each for each in seen.replicas if not each.draining]
        ttft = [own + _step(self._profile, each.waiting * inputs, 0.0, context) for each in pods]
        itl = [_step(self._profile, 0.0, each.running, context) for each in pods]
        late = [
            first > self._slo.ttft_seconds or step > self._itl for first, step in zip(ttft, itl, strict=True)
        ]
        if late and all(late):
            return 1
        count = len(pods)
        if count < 2:
            return 0
        share = count / (count - 1)
        room = DOWN_SENSITIVITY * (self._slo.ttft_seconds - own)
        idle = all(
            (first - own) * share < room
            and _step(self._profile, 0.0, each.running * share, context) < DOWN_SENSITIVITY * self._itl
            and each.kv_usage_ratio * share < 1
            for each, first in zip(pods, ttft, strict=True)
        )
        return -1 if idle else 0


def worker_seconds(profile: EngineProfile, inputs: float, outputs: float, itl_seconds: float) -> float:
    """Return the seconds of one aggregated worker that a request takes at the largest batch within ITL."""
    context = inputs + outputs / 2
    most = int(min(profile.max_sequences, profile.kv_capacity_tokens / context))
    batch = 1
    while batch < most and _step(profile, 0.0, batch + 1, context) <= itl_seconds:
        batch += 1
    chunks = math.ceil(inputs / profile.step_token_budget)
    prefill = chunks * _step(profile, inputs / chunks, 0.0, context)
    return prefill + outputs * _step(profile, 0.0, batch, context) / batch


def _step(profile: EngineProfile, prompt: float, running: float, context: float) -> float:
    return profile.step_law.seconds_of_one(
        prefill_tokens=prompt,
        decode_sequences=running,
        attention_token_pairs=prompt * prompt / 2,
        kv_tokens=running * context,
    )
