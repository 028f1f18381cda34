"""Prefill and decode in two pools: the cycle model for one, the fluid law for the other.

Prefill replica, lambda prompts/s of p seconds each, t0 a step; prompts that arrive during a cycle enter
together in the next (gated):

    E[T] = t0 / (1 - lambda E[p]),   Var T = lambda E[T] E[p^2] / (1 - (lambda E[p])^2)
    TTFT = E[T^2]/(2 E[T]) + t0 + E[p] + lambda E[p] E[T^2]/E[T]     residual, then the own cycle

Decode replica, s sequence-steps/s:  T = t0 + max(tw, g B) + (e kv + h) B,  B = s T;  TPOT = T.
Between them moves the prompt's KV: bytes / bandwidth.
The cycle is as pessimistic as a busy engine: an idle prefill pool would start a prompt at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.queueing.domain import non_negative, positive, require_stable, whole_number
from penstock.queueing.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class PrefillWork:
    """A prompt's own compute time: mean and second moment (s, s^2), and the fixed part of a step (s)."""

    mean_seconds: float
    second_moment: float
    step_base_seconds: float

    def __post_init__(self) -> None:
        positive("mean_seconds", self.mean_seconds)
        positive("step_base_seconds", self.step_base_seconds)
        if not self.second_moment >= self.mean_seconds**2 * (1 - 1e-12):
            raise InvalidParameter("second_moment", "is below the square of the mean: no law has that")


@dataclass(frozen=True, slots=True)
class DecodeWork:
    """The step law of a replica that only decodes, seconds; `kv_tokens` of context a sequence holds."""

    base_seconds: float
    weights_seconds: float
    per_sequence_seconds: float  # g: hidden behind reading the weights while the batch is small
    extra_per_sequence_seconds: float  # h + e x kv_tokens: never hidden


@dataclass(frozen=True, slots=True)
class PhaseSplit:
    """Two pools that together serve one stream."""

    prefill_replicas: int
    decode_replicas: int
    ttft_mean_seconds: float
    kv_transfer_seconds: float
    tpot_mean_seconds: float


def prefill_ttft_seconds(work: PrefillWork, arrival_rate: float) -> float:
    """Return the mean time to first token of one prefill replica at `arrival_rate` prompts/s."""
    rate = float(non_negative("arrival_rate", arrival_rate))
    load = rate * work.mean_seconds
    require_stable(load, 1.0)
    cycle = work.step_base_seconds / (1 - load)
    variance = rate * cycle * work.second_moment / (1 - load**2)
    found = (variance + cycle**2) / cycle  # the cycle that an arrival falls into is longer than the mean one
    return found / 2 + work.step_base_seconds + work.mean_seconds + load * found


def decode_tpot_seconds(work: DecodeWork, decode_step_rate: float) -> float:
    """Return the time per output token of one decode replica that makes `decode_step_rate` tokens/s."""
    rate = float(non_negative("decode_step_rate", decode_step_rate))
    hidden = rate * work.extra_per_sequence_seconds
    visible = hidden + rate * work.per_sequence_seconds
    require_stable(visible, 1.0)
    # Both branches of the max() are straight lines in T: the fixed point is the larger of theirs.
    return max((work.base_seconds + work.weights_seconds) / (1 - hidden), work.base_seconds / (1 - visible))


def kv_transfer_seconds(*, prompt_tokens: float, kv_bytes_per_token: float, bytes_per_second: float) -> float:
    """Return how long a prompt's keys and values take from the prefill pool to the decode pool."""
    moved = non_negative("prompt_tokens", prompt_tokens) * positive("kv_bytes_per_token", kv_bytes_per_token)
    return float(moved / positive("bytes_per_second", bytes_per_second))


def split_pools(
    prefill: PrefillWork,
    decode: DecodeWork,
    *,
    arrival_rate: float,
    decode_steps_per_request: float,
    ttft_seconds: float,
    tpot_seconds: float,
    transfer_seconds: float,
) -> PhaseSplit:
    """Return the smallest two pools whose mean TTFT (with the transfer) and mean TPOT are within the targets.

    `arrival_rate` requests/s over all. Raises InvalidParameter where an idle replica already misses a target.
    """
    rate = float(non_negative("arrival_rate", arrival_rate))
    steps = rate * float(non_negative("decode_steps_per_request", decode_steps_per_request))
    best_ttft = prefill_ttft_seconds(prefill, 0.0) + transfer_seconds
    if not best_ttft <= ttft_seconds:
        raise InvalidParameter(
            "ttft_seconds", f"= {ttft_seconds:g} is below {best_ttft:.4g}, that of an idle replica"
        )
    best_tpot = decode_tpot_seconds(decode, 0.0)
    if not best_tpot <= tpot_seconds:
        raise InvalidParameter(
            "tpot_seconds", f"= {tpot_seconds:g} is below {best_tpot:.4g}, that of an idle replica"
        )
    prefills = int(whole_number("prefill_replicas", rate * prefill.mean_seconds // 1 + 1))
    while prefill_ttft_seconds(prefill, rate / prefills) + transfer_seconds > ttft_seconds:
        prefills += 1
    decodes = int(steps * (decode.per_sequence_seconds + decode.extra_per_sequence_seconds) // 1 + 1)
    while decode_tpot_seconds(decode, steps / decodes) > tpot_seconds:
        decodes += 1
    return PhaseSplit(
        prefill_replicas=prefills,
        decode_replicas=decodes,
        ttft_mean_seconds=prefill_ttft_seconds(prefill, rate / prefills) + transfer_seconds,
        kv_transfer_seconds=transfer_seconds,
        tpot_mean_seconds=decode_tpot_seconds(decode, steps / decodes),
    )
