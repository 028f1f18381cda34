"""Mean step time of a replica that decodes B sequences while prompts keep coming: the fluid law.

    T = t0 + q D(B) + (1-q) E[D(i+B)] + g E[i] (x - (1-q)) + a x E[i^2]/2 + e B kvres + h B

with x prompts a step, q = P(no prompt in a step), D(n) = max(tw, g n) + experts(n) and kvres the
context a sequence holds. Without q the max() hides the weights behind an average of tokens that no step
has, and TPOT at low load comes out 17 % short. In balance x = B/E[o-1]: T(B), and with it the
completion rate mu(B) = B/(E[o-1] T(B)). With a given arrival rate instead, x = rate T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.traffic import TrafficShape

_PROMPT_STRATA = 64
_ITERATIONS = 30  # of T = f(rate T): each gains a factor prefill share x d(q)/dx, below 1/3


@dataclass(frozen=True, slots=True)
class FluidLaw:
    """The step law averaged over a traffic shape. Arrays in, arrays out; seconds."""

    profile: EngineProfile
    shape: TrafficShape

    def idle_step_seconds(self, running: FloatArray) -> FloatArray:
        """Return the time of a step without a prompt."""
        law = self.profile.step_law
        per_sequence = law.per_kv_token_seconds * self.shape.kv_resident_tokens + law.per_sequence_seconds
        return np.asarray(law.token_seconds(running) + per_sequence * running)

    def first_prompt_seconds(self, running: FloatArray) -> FloatArray:
        """Return what the first prompt adds to a step on average (the weights may hide part of it)."""
        law = self.profile.step_law
        prompts = np.sort(self.shape.input_lengths)
        strata = np.array(
            [part.mean() for part in np.array_split(prompts, min(_PROMPT_STRATA, prompts.size))]
        )
        with_prompt = law.token_seconds(np.add.outer(running, strata)).mean(axis=-1)
        return np.asarray(with_prompt - law.token_seconds(running) + self._pair_seconds)

    @property
    def further_prompt_seconds(self) -> float:
        """What each further prompt of the same step adds on average."""
        return self.profile.step_law.per_token_seconds * self.shape.input_mean + self._pair_seconds

    @property
    def prompt_seconds(self) -> tuple[float, float]:
        """Mean and variance of the time a prompt adds to a step that is not waiting for the weights."""
        law, prompts = self.profile.step_law, self.shape.input_lengths
        times = prompts * (law.per_token_seconds + law.per_token_pair_seconds * prompts / 2)
        return float(times.mean()), float(times.var())

    @property
    def context_tokens(self) -> tuple[float, float]:
        """Mean and standard deviation of the context a decoding sequence holds, over decode steps."""
        i, o = self.shape.input_lengths, self.shape.output_lengths
        steps = o - 1.0
        if not steps.any():
            return self.shape.input_mean, 0.0
        mean = self.shape.kv_resident_tokens
        square = float(steps @ (i * i + i * o + o * o / 3) / steps.sum())
        return mean, float(np.sqrt(max(square - mean * mean, 0.0)))

    @property
    def _pair_seconds(self) -> float:
        return self.profile.step_law.per_token_pair_seconds * self.shape.input_second_moment / 2

    def balanced_step_seconds(self, running: FloatArray) -> FloatArray:
        """Return T(B): prompts enter as fast as sequences end."""
        steps = max(self.shape.decode_steps_mean, 1e-9)
        return self.step_seconds(running, np.asarray(running) / steps)

    def step_seconds(
        self, running: FloatArray, prompts_per_step: FloatArray, gap_scv: float = 1.0
    ) -> FloatArray:
        """Return the mean step time with `prompts_per_step` (broadcasts with `running`)."""
        x = np.asarray(prompts_per_step, dtype=np.float64)
        some = 1 - no_prompt_probability(x, gap_scv)
        first = self.first_prompt_seconds(running)
        return self.idle_step_seconds(running) + some * first + (x - some) * self.further_prompt_seconds

    def driven_step_seconds(self, running: FloatArray, rate: FloatArray, gap_scv: float = 1.0) -> FloatArray:
        """Return the mean step time when prompts arrive at `rate` (1/s); inf where they never drain."""
        rate = np.asarray(rate, dtype=np.float64)
        idle, first = self.idle_step_seconds(running), self.first_prompt_seconds(running)
        further = self.further_prompt_seconds
        room = 1 - rate * further
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(room > 0, idle / np.maximum(room, 1e-12), np.inf)
            for _ in range(_ITERATIONS):
                some = 1 - no_prompt_probability(rate * step, gap_scv)
                step = np.where(room > 0, (idle + some * (first - further)) / np.maximum(room, 1e-12), np.inf)
        return step


def no_prompt_probability(prompts_per_step: FloatArray, gap_scv: float) -> FloatArray:
    """Return P(no prompt arrives during a step): exp(-x) for Poisson, 1 - x for evenly spaced arrivals."""
    x = np.asarray(prompts_per_step, dtype=np.float64)
    even = np.maximum(0.0, 1.0 - x)
    return even + gap_scv * (np.exp(-x) - even)
