"""llm-d's token-aware KEDA guide: prompt tokens in flight by prefill speed, KV cache by 0.8.

    d = max(ceil(prompt tokens in flight/V/1.5 s), ceil(sum of KV usage/0.8)),  V: peak prefill tokens/s

Two triggers of an HPA, an AverageValue each. Source: llm-d/llm-d guides/workload-autoscaling,
keda-epp-token-aware. V is measured there: a prompt of one full step over its time to first token on an idle
engine (15,928 for Qwen3-32B on two H100); here the profile says that time. Tokens in flight are those that
wait, and the arrival rate times the time to first token (Little), whichever is more.
"""

from __future__ import annotations

from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.policies.hpa_law import SYNC_SECONDS, Behavior, Stabilizer, average_value
from penstock.sim.policy_port import Signals

DRAIN_SECONDS, KV_TARGET = 1.5, 0.8


def prefill_tokens_per_second(profile: EngineProfile) -> float:
    """Return the speed at which a prompt as long as a step's budget comes to its first token."""
    tokens = float(profile.step_token_budget)
    seconds = profile.step_law.seconds_of_one(
        prefill_tokens=tokens, decode_sequences=0.0, attention_token_pairs=tokens * tokens / 2, kv_tokens=0.0
    )
    return tokens / (profile.frontend_seconds + seconds)


class TokenAware:
    """The guide's ScaledObject; `kv` and `drain_seconds` are its two thresholds."""

    name = "token-aware KEDA"
    interval_seconds = SYNC_SECONDS

    def __init__(
        self, profile: EngineProfile, *, kv: float = KV_TARGET, drain_seconds: float = DRAIN_SECONDS
    ) -> None:
        self._speed, self._kv, self._drain = prefill_tokens_per_second(profile), kv, drain_seconds
        self._stabilizer = Stabilizer(Behavior())

    def decide(self, seen: Signals) -> int:
        """Return the target after one sync of its HPA."""
        self._stabilizer.begin(seen.at, seen.target)
        rates = seen.rates(seen.rate_window_seconds)
        if rates is None or not seen.replicas:
            return seen.target
        tokens = rates.engine.prompt_tokens * (rates.engine.ttft_seconds.mean or 0.0)
        if rates.engine.requests > 0:
            mean = rates.engine.prompt_tokens / rates.engine.requests
            tokens = max(tokens, mean * sum(each.waiting for each in seen.replicas))
        usage = sum(each.kv_usage_ratio for each in seen.replicas)
        wanted = max(
            average_value(tokens / self._speed, self._drain, seen.target),
            average_value(usage, self._kv, seen.target),
        )
        bounded = min(max(wanted, seen.min_replicas), seen.max_replicas)
        return self._stabilizer.limited(seen.at, seen.target, bounded)
