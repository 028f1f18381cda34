"""How prompts wait for steps: the gated cycle, replayed for many independent lanes at once.

Prompts that arrive during a step enter together in the next one, first come first served, up to the
step's token budget; what does not fit is cut and goes on in the step after. A lane is one replica
with a fixed number of decoding sequences, so a step lasts D(P, S) = law(P, B, S, KV), and the replay
needs one update per arrival: the arrival joins the step that is still gathering, or opens the next
boundary. Cost: about 25 numpy operations over all lanes per arrival index.
"""

from __future__ import annotations

import numpy as np

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
) -> FloatArray:
    """Return the time from arrival to the end of the step that completes the prompt. Seconds.

    `running` and `kv_tokens` have one entry a lane, `gaps` (s between arrivals) and `prompts` (tokens)
    one row a lane; the result has their shape. A lane with nothing running sleeps until a prompt comes.
    """
    lanes, count = gaps.shape
    arrivals = np.cumsum(gaps, axis=1)
    fixed = law.per_kv_token_seconds * kv_tokens + law.per_sequence_seconds * running
    room = np.maximum(step_token_budget - running, 1.0)
    full = fixed + law.token_seconds(running + room)
    idle = fixed + law.token_seconds(running)
    sleeping = running <= 0

    # The latest step that has prompts: when it starts, what it holds, when it ends.
    starts = np.zeros(lanes)
    tokens = np.zeros(lanes)
    pairs = np.zeros(lanes)
    ends = np.zeros(lanes)
    own_ends = np.empty((count, lanes))
    closed_ends = np.empty((count, lanes))  # final end of the step before, where this arrival left it
    opened = np.empty((count, lanes), dtype=bool)
    for j in range(count):
        now, prompt = arrivals[:, j], prompts[:, j]
        late = now > ends
        boundary = np.where(sleeping, now, ends + np.ceil((now - ends) / idle) * idle)
        fresh = now > starts
        starts = np.where(late, boundary, np.where(fresh, ends, starts))
        tokens = np.where(fresh, prompt, tokens + prompt)
        new_pairs = law.per_token_pair_seconds * prompt * prompt / 2
        closed = ends
        overflow = tokens > room
        if overflow.any():
            whole = np.where(overflow, np.ceil(tokens / room) - 1, 0.0)
            # An arrival that tops up a gathering step closes it at its full size.
            closed = np.where(overflow & ~fresh, starts + full + pairs, closed)
            starts = starts + whole * full + np.where(overflow & ~fresh, pairs, 0.0)
            tokens = tokens - whole * room
            fresh = fresh | overflow
        pairs = np.where(fresh, new_pairs, pairs + new_pairs)
        ends = starts + fixed + law.token_seconds(tokens + running) + pairs
        own_ends[j], closed_ends[j], opened[j] = ends, closed, fresh
    final = own_ends  # of the step an arrival belongs to: fixed by the last one to join it
    for j in range(count - 2, -1, -1):
        final[j] = np.where(opened[j + 1], closed_ends[j + 1], final[j + 1])
    return np.asarray(final.T - arrivals)
