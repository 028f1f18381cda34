"""How an engine differs from its profile: three factors on the terms of the step law.

    T = fo (t0 + h B) + max(fm tw, fc g (P+B)) + fc a S + fm e KV

fo is what the host adds to each step, fc the arithmetic, fm reading memory: another GPU, driver or engine
version changes these three apart, while all equal is the plain "30 % slower".
"""

from __future__ import annotations

from dataclasses import replace

from penstock.model.value import value
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.step_law import StepLaw


@value(frozen=True, slots=True)
class StepFactors:
    """Measured over profile; 1.0: as the profile says, above it slower."""

    overhead: float = 1.0
    compute: float = 1.0
    memory: float = 1.0

    @classmethod
    def even(cls, ratio: float) -> StepFactors:
        """Return the factors of an engine whose every step takes `ratio` times as long."""
        return cls(ratio, ratio, ratio)


AS_PROFILED = StepFactors()


def with_factors(law: StepLaw, factors: StepFactors) -> StepLaw:
    """Return the law of the engine that differs from `law` by `factors`."""
    if factors == AS_PROFILED:
        return law
    return StepLaw(
        base_seconds=law.base_seconds * factors.overhead,
        weights_seconds=law.weights_seconds * factors.memory,
        per_token_seconds=law.per_token_seconds * factors.compute,
        per_token_pair_seconds=law.per_token_pair_seconds * factors.compute,
        per_kv_token_seconds=law.per_kv_token_seconds * factors.memory,
        per_sequence_seconds=law.per_sequence_seconds * factors.overhead,
        experts_seconds=law.experts_seconds * factors.memory,
        experts_tokens=law.experts_tokens,
    )


def engine_with_factors(profile: EngineProfile, factors: StepFactors) -> EngineProfile:
    """Return the profile of the engine that differs from `profile` by `factors`."""
    return (
        profile
        if factors == AS_PROFILED
        else replace(profile, step_law=with_factors(profile.step_law, factors))
    )
