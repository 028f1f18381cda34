"""What a request weighs: its prompt tokens plus its output tokens, one of which costs as much as several.

    work = i + w o,   w = (T(B)/B) / (prompt token's time)

at half the sequences an engine runs. Only ratios of work are used (this minute's requests against those
that capacity is known for), so w need not be exact: within a factor of two it moves the ratio by less than
the lengths' own noise. For Llama-3.1-8B on an H100 w is 5.6.
"""

from __future__ import annotations

from functools import lru_cache

from penstock.model.observation import Load
from penstock.policy.lengths import ShapeCell
from penstock.queueing.engine_profile import EngineProfile

CONTEXT_TOKENS = 1000.0
PROMPT_TOKENS = 2048.0  # long enough that the weights' time hides none of it
LARGEST_WEIGHT = 1000.0


@lru_cache(maxsize=1024)
def output_token_weight(profile: EngineProfile) -> float:
    """Return how many prompt tokens cost as much as one output token."""
    law = profile.step_law
    running = max(1.0, min(profile.max_sequences, profile.kv_capacity_tokens / CONTEXT_TOKENS) / 2)

    def step(prefill: float) -> float:
        return law.seconds_of_one(
            prefill_tokens=prefill,
            decode_sequences=running,
            attention_token_pairs=0.0,
            kv_tokens=running * CONTEXT_TOKENS,
        )

    output = step(0.0) / running
    prompt = (step(PROMPT_TOKENS) - step(0.0)) / PROMPT_TOKENS
    return min(output / max(prompt, output / LARGEST_WEIGHT), LARGEST_WEIGHT)


def measured_work(load: Load, weight: float) -> float | None:
    """Return the mean work of the requests that are served now, in tokens; None where it is not known."""
    arrival = load.arrival_rate.value
    inputs, outputs = load.input_token_rate.value, load.output_token_rate.value
    if not arrival or inputs is None or outputs is None:
        return None
    work = (inputs + weight * outputs) / arrival
    return work if work > 0 else None


def cell_work(cell: ShapeCell, weight: float) -> float:
    """Return the mean work of the requests that a table was solved for, in tokens."""
    return cell.input.mean + weight * cell.output.mean
