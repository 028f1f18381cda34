"""How prompts wait for steps: the gated cycle, replayed for many independent lanes at once.

Prompts that arrive during a step enter together in the next one, first come first served, up to the
step's token budget; what does not fit is cut and goes on in the step after. A lane is one replica
with a fixed number of decoding sequences, so a step lasts D(P, S) = law(P, B, S, KV), and the replay
needs one update per arrival: the arrival joins the step that is still gathering, or opens the next
boundary. Cost: about 25 numpy operations over all lanes per arrival index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from penstock.queueing.domain import FloatArray
from penstock.queueing.step_law import StepLaw


def first_token_waits(
    law: StepLaw,
    *,
    step_token_budget: int,
    running: FloatArray,
    kv_tokens: FloatArray,
    gaps: FloatArray,
    prompts: FloatArray,
    early_phase: float = 0.0,
    held_back: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return the time from arrival to the end of the step that completes the prompt. Seconds.

    `running` and `kv_tokens` have one entry a lane, `gaps` (s between arrivals) and `prompts` (tokens)
    one row a lane; the result has their shape. A lane with nothing running sleeps until a prompt comes.
    `early_phase` of the time since the step in progress began is added to every wait; arrivals that are
    `held_back` (a mask) come no earlier than the end of the step in progress.
    """
    lanes, count = gaps.shape
    arrivals = np.empty((count, lanes))
    now = np.zeros(lanes)
    fixed = law.per_kv_token_seconds * kv_tokens + law.per_sequence_seconds * running
    room = np.maximum(step_token_budget - running, 1.0)
    full = fixed + law.token_seconds(running + room)
    idle = fixed + law.token_seconds(running)
    sleeping = running <= 0

    # The latest step that has prompts: when it starts, what it holds, when it ends.
    starts, ends = np.zeros(lanes), np.zeros(lanes)
    tokens, pairs = np.zeros(lanes), np.zeros(lanes)
    began = np.zeros(lanes)  # of the step in progress when the latest prompt came
    elapsed = np.zeros((count, lanes))
    own_ends = np.empty((count, lanes))
    closed_ends = np.empty((count, lanes))  # final end of the step before, where this arrival left it
    opened = np.empty((count, lanes), dtype=bool)
    for j in range(count):
        prompt = prompts[:, j]
        now = now + gaps[:, j]
        if held_back is not None:
            now = np.where(held_back[:, j], np.maximum(now, ends), now)
        arrivals[j] = now
        late = now > ends
        boundary = np.where(sleeping, now, ends + np.ceil((now - ends) / idle) * idle)
        fresh = now > starts
        if early_phase:
            began = np.where(late, boundary - idle, np.where(fresh, starts, began))
            elapsed[j] = np.where(sleeping & late, 0.0, np.maximum(now - began, 0.0))
        starts = np.where(late, boundary, np.where(fresh, ends, starts))
        tokens = np.where(fresh, prompt, tokens + prompt)
        new_pairs = law.per_token_pair_seconds * prompt * prompt / 2
        closed = ends
        overflow = tokens > room
        if overflow.any():
            whole = np.where(overflow, np.ceil(tokens / room) - 1, 0.0)
            topped_up = overflow & ~fresh  # a gathering step, which this arrival closes at its full size
            closed = np.where(topped_up, starts + full + pairs, closed)
            starts = starts + whole * full + np.where(topped_up, pairs, 0.0)
            tokens = tokens - whole * room
            fresh = fresh | overflow
        pairs = np.where(fresh, new_pairs, pairs + new_pairs)
        ends = starts + fixed + law.token_seconds(tokens + running) + pairs
        own_ends[j], closed_ends[j], opened[j] = ends, closed, fresh
    final = own_ends  # of the step an arrival belongs to: fixed by the last one to join it
    for j in range(count - 2, -1, -1):
        final[j] = np.where(opened[j + 1], closed_ends[j + 1], final[j + 1])
    return np.asarray((final - arrivals + early_phase * elapsed).T)
