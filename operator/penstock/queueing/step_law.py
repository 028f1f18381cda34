"""Time of one step of a continuous-batching engine, as a function of the work in it.

    T = t0 + max(tw, g (P + B)) + a S + e KV + h B + m (1 - exp(-(P + B)/n0))

P prefill tokens and B decoding sequences in the step, S = sum over prefill chunks of
p (prefix + p/2), KV = tokens of context that the decoding sequences hold. The last term is the cost of
reading the experts touched (mixtures of experts only). All times are seconds.

The form fits kernels, chunked prefill and whole runs of real engines: docs/model.md has the errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from penstock.queueing.domain import FloatArray, FloatOrArray, same_kind
from penstock.queueing.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class StepLaw:
    """The coefficients of the step law, in seconds (the profile files are in milliseconds)."""

    base_seconds: float  # t0
    weights_seconds: float = 0.0  # tw: reading the weights, hidden behind enough tokens
    per_token_seconds: float = 0.0  # g
    per_token_pair_seconds: float = 0.0  # a
    per_kv_token_seconds: float = 0.0  # e
    per_sequence_seconds: float = 0.0  # h
    experts_seconds: float = 0.0  # m
    experts_tokens: float = 1.0  # n0

    def __post_init__(self) -> None:
        for name in _COEFFICIENTS:
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidParameter(name, f"must be a finite number >= 0, got {getattr(self, name)!r}")
        if self.base_seconds + self.weights_seconds <= 0:
            raise InvalidParameter("base_seconds", "and weights_seconds are both zero: a step takes time")
        if self.experts_tokens <= 0:
            raise InvalidParameter("experts_tokens", "must be > 0")

    def step_seconds(
        self,
        prefill_tokens: FloatOrArray,
        decode_sequences: FloatOrArray,
        attention_token_pairs: FloatOrArray,
        kv_tokens: FloatOrArray,
    ) -> FloatOrArray:
        """Return the duration of a step; the four arguments broadcast. Seconds."""
        return same_kind(
            self.token_seconds(np.add(prefill_tokens, decode_sequences))
            + self.per_token_pair_seconds * np.asarray(attention_token_pairs)
            + self.per_kv_token_seconds * np.asarray(kv_tokens)
            + self.per_sequence_seconds * np.asarray(decode_sequences)
        )

    def seconds_of_one(
        self,
        *,
        prefill_tokens: float,
        decode_sequences: float,
        attention_token_pairs: float,
        kv_tokens: float,
    ) -> float:
        """Return `step_seconds` of a single step in plain floats: 0.5 microseconds, with arrays 6."""
        count = prefill_tokens + decode_sequences
        seconds = self.base_seconds + max(self.weights_seconds, self.per_token_seconds * count)
        if self.experts_seconds:
            seconds -= self.experts_seconds * math.expm1(-count / self.experts_tokens)
        return (
            seconds
            + self.per_token_pair_seconds * attention_token_pairs
            + self.per_kv_token_seconds * kv_tokens
            + self.per_sequence_seconds * decode_sequences
        )

    def token_seconds(self, tokens: FloatOrArray) -> FloatArray:
        """Return the part of a step that depends on its tokens P + B only, t0 included. Seconds."""
        count = np.asarray(tokens, dtype=np.float64)
        dense = np.maximum(self.weights_seconds, self.per_token_seconds * count)
        if not self.experts_seconds:
            return self.base_seconds + dense
        return self.base_seconds + dense - self.experts_seconds * np.expm1(-count / self.experts_tokens)

    def scaled(self, factor: float) -> StepLaw:
        """Return the law of an engine whose every step takes `factor` times as long."""
        if not 0 < factor < np.inf:
            raise InvalidParameter("factor", f"must be a finite number > 0, got {factor!r}")
        return StepLaw(
            base_seconds=self.base_seconds * factor,
            weights_seconds=self.weights_seconds * factor,
            per_token_seconds=self.per_token_seconds * factor,
            per_token_pair_seconds=self.per_token_pair_seconds * factor,
            per_kv_token_seconds=self.per_kv_token_seconds * factor,
            per_sequence_seconds=self.per_sequence_seconds * factor,
            experts_seconds=self.experts_seconds * factor,
            experts_tokens=self.experts_tokens,
        )


# Calibration makes laws by the thousand in a tick: `fields` in the check took half of that.
_COEFFICIENTS = tuple(each.name for each in fields(StepLaw))
