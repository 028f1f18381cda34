"""One continuous-batching engine, step by step, as vLLM V1 schedules.

Decodes first; then the prompt that was cut, then waiting ones first come first served, while there is a
slot, step budget and KV room for the whole prompt. When the decodes of a step need more KV blocks than
are free, the sequence admitted last is preempted, goes to the head of the queue and recomputes all it
knew; a step that preempts admits nobody.

A step costs O(1), not O(batch): which step makes a sequence's last token is known when it enters, and
which steps it needs a new block in too (every 16th), so both are kept in calendars. The step law is that
of `queueing.step_law`; a token-by-token simulation in the tests gives the same times.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.engine.batch_loop import BLOCK_TOKENS
from penstock.queueing.domain import FloatArray
from penstock.sim.compiled import compiled
from penstock.sim.series import (
    FINISHED,
    GENERATION_TOKENS,
    INPUT_LENGTH,
    INTER_TOKEN,
    LATENCY,
    LENGTH_BOUNDS,
    OUTPUT_LENGTH,
    PREEMPTIONS,
    PROMPT_TOKENS,
    QUEUE_TIME,
    REQUEST_BOUNDS,
    REQUESTS,
    STEPS,
    TOKEN_BOUNDS,
    TPOT,
    TTFT,
    TTFT_BOUNDS,
)
from penstock.sim.state import NOBODY, Replicas, Requests

_PHASES = BLOCK_TOKENS - 1


@compiled
def observe(series: FloatArray, histogram: int, bounds: FloatArray, value: float, times: int) -> None:
    """Count `times` observations of `value`."""
    bucket = 0
    while bucket < bounds.size and value > bounds[bucket]:
        bucket += 1
    series[histogram] += value * times
    series[histogram + 1 + bucket] += times


@compiled
def blocks_of(tokens: int) -> int:
    """Return the KV blocks that hold `tokens`."""
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@compiled
def begin_step(requests: Requests, replicas: Replicas, row: int, now: float) -> None:
    """Choose the work of the step that starts at `now`; without any the engine sleeps."""
    replicas.step[row] += 1
    step = replicas.step[row]
    needed = replicas.block_phase[row, step & _PHASES]
    preempted = False
    # The last sequence stays: alone it fits, as the scenario was checked for.
    while needed > replicas.free_blocks[row] and replicas.running[row] > 1:
        needed -= _preempt_newest(requests, replicas, row, now)
        preempted = True
    replicas.free_blocks[row] -= needed
    decoding = replicas.decoding[row]
    budget = replicas.step_budget[row] - decoding
    prefill, pairs = 0, 0.0
    partial = replicas.partial[row]
    if partial != NOBODY and budget > 0:
        done = replicas.partial_done[row]
        chunk = min(requests.prompt[partial] + requests.made[partial] - done, budget)
        pairs += chunk * (done + chunk / 2)
        prefill += chunk
        _compute(requests, replicas, row, chunk)
    while not preempted and budget > prefill and replicas.running[row] < replicas.slots[row]:
        head = replicas.queue_head[row]
        if head == NOBODY:
            break
        known = requests.prompt[head] + requests.made[head]
        if blocks_of(known) > replicas.free_blocks[row]:
            break
        _admit(requests, replicas, row, now)
        chunk = min(known, budget - prefill)
        pairs += chunk * (chunk / 2)
        prefill += chunk
        _compute(requests, replicas, row, chunk)
    if prefill == 0 and decoding == 0:
        replicas.ends[row] = np.inf
        return
    replicas.began[row] = now
    replicas.ends[row] = now + _seconds(replicas.law[row], prefill, decoding, pairs, replicas.context[row])


@compiled
def finish_step(requests: Requests, replicas: Replicas, row: int) -> None:
    """Hand out the tokens of the step that ends at `ends`."""
    now, step = replicas.ends[row], replicas.step[row]
    series, decoding = replicas.series[row], replicas.decoding[row]
    series[STEPS] += 1
    if decoding:
        series[GENERATION_TOKENS] += decoding
        observe(series, INTER_TOKEN, TOKEN_BOUNDS, now - replicas.began[row], decoding)
        replicas.context[row] += decoding
    ring = replicas.leaving.shape[1] - 1
    request = replicas.leaving[row, step & ring]
    replicas.leaving[row, step & ring] = NOBODY
    while request != NOBODY:
        following = requests.leaves_after[request]
        held = requests.prompt[request] + requests.made[request] + (step - requests.entered[request])
        replicas.decoding[row] -= 1
        replicas.context[row] -= held
        replicas.block_phase[row, _phase(requests, request)] -= 1
        _leave(requests, replicas, row, request, blocks_of(held), now)
        request = following
    request = replicas.prefilled[row]
    replicas.prefilled[row] = NOBODY
    while request != NOBODY:
        following = requests.leaves_after[request]
        series[GENERATION_TOKENS] += 1
        if requests.made[request] == 0:
            requests.first[request] = now
            series[REQUESTS] += 1
            series[PROMPT_TOKENS] += requests.prompt[request]
            observe(series, TTFT, TTFT_BOUNDS, now - requests.arrival[request], 1)
        else:
            observe(series, INTER_TOKEN, TOKEN_BOUNDS, now - requests.token_at[request], 1)
        known = requests.prompt[request] + requests.made[request]
        requests.entered[request] = step
        if requests.output[request] - requests.made[request] == 1:
            _leave(requests, replicas, row, request, blocks_of(known), now)
        else:
            _enter(requests, replicas, row, request, known)
        request = following


@compiled
def queue_request(requests: Requests, replicas: Replicas, row: int, request: int) -> None:
    """Put a request at the end of the engine's queue."""
    tail = replicas.queue_tail[row]
    requests.after[request] = NOBODY
    if tail == NOBODY:
        replicas.queue_head[row] = request
    else:
        requests.after[tail] = request
    replicas.queue_tail[row] = request
    replicas.present[row] += 1
    replicas.outstanding[row] += requests.prompt[request] + requests.output[request]


@compiled
def _admit(requests: Requests, replicas: Replicas, row: int, now: float) -> None:
    """Move the head of the queue into the batch, with the KV blocks of all it knows."""
    request = replicas.queue_head[row]
    replicas.queue_head[row] = requests.after[request]
    if replicas.queue_head[row] == NOBODY:
        replicas.queue_tail[row] = NOBODY
    newest = replicas.newest[row]
    requests.before[request] = newest
    requests.after[request] = NOBODY
    if newest != NOBODY:
        requests.after[newest] = request
    replicas.newest[row] = request
    replicas.running[row] += 1
    replicas.free_blocks[row] -= blocks_of(requests.prompt[request] + requests.made[request])
    replicas.partial[row] = request
    replicas.partial_done[row] = 0
    if math.isnan(requests.admitted[request]):
        requests.admitted[request] = now


@compiled
def _compute(requests: Requests, replicas: Replicas, row: int, chunk: int) -> None:
    """Count `chunk` tokens of the prompt in work as computed by this step."""
    request = replicas.partial[row]
    replicas.partial_done[row] += chunk
    if replicas.partial_done[row] == requests.prompt[request] + requests.made[request]:
        requests.leaves_after[request] = replicas.prefilled[row]
        replicas.prefilled[row] = request
        replicas.partial[row] = NOBODY


@compiled
def _phase(requests: Requests, request: int) -> int:
    """Return k: the sequence starts a new block in every step that is k mod 16."""
    known = requests.prompt[request] + requests.made[request]
    return int((requests.entered[request] + 1 - known) & _PHASES)


@compiled
def _enter(requests: Requests, replicas: Replicas, row: int, request: int, known: int) -> None:
    """Start decoding: note the step of its last token and the steps of its new blocks."""
    last = replicas.step[row] + requests.output[request] - requests.made[request] - 1
    place = last & (replicas.leaving.shape[1] - 1)
    other = replicas.leaving[row, place]
    requests.leaves_after[request] = other
    requests.leaves_before[request] = NOBODY
    if other != NOBODY:
        requests.leaves_before[other] = request
    replicas.leaving[row, place] = request
    replicas.decoding[row] += 1
    replicas.context[row] += known
    replicas.block_phase[row, _phase(requests, request)] += 1


@compiled
def _preempt_newest(requests: Requests, replicas: Replicas, row: int, now: float) -> int:
    """Push the sequence admitted last back to the head of the queue; return blocks no longer needed."""
    request, step = replicas.newest[row], replicas.step[row]
    spared = 0
    if request == replicas.partial[row]:
        held = requests.prompt[request] + requests.made[request]
        replicas.partial[row] = NOBODY
    else:
        decoded = step - 1 - requests.entered[request]
        held = requests.prompt[request] + requests.made[request] + decoded
        phase = _phase(requests, request)
        spared = 1 if phase == step & _PHASES else 0
        replicas.block_phase[row, phase] -= 1
        replicas.decoding[row] -= 1
        replicas.context[row] -= held
        last = requests.entered[request] + requests.output[request] - requests.made[request] - 1
        before, after = requests.leaves_before[request], requests.leaves_after[request]
        if before == NOBODY:
            replicas.leaving[row, last & (replicas.leaving.shape[1] - 1)] = after
        else:
            requests.leaves_after[before] = after
        if after != NOBODY:
            requests.leaves_before[after] = before
        requests.made[request] += decoded + 1
        requests.token_at[request] = now
    replicas.free_blocks[row] += blocks_of(held)
    _forget_admission(requests, replicas, row, request)
    requests.after[request] = replicas.queue_head[row]
    if replicas.queue_head[row] == NOBODY:
        replicas.queue_tail[row] = request
    replicas.queue_head[row] = request
    replicas.series[row, PREEMPTIONS] += 1
    return spared


@compiled
def _forget_admission(requests: Requests, replicas: Replicas, row: int, request: int) -> None:
    before, after = requests.before[request], requests.after[request]
    if before != NOBODY:
        requests.after[before] = after
    if after == NOBODY:
        replicas.newest[row] = before
    else:
        requests.before[after] = before
    replicas.running[row] -= 1


@compiled
def _leave(requests: Requests, replicas: Replicas, row: int, request: int, blocks: int, now: float) -> None:
    """Answer a request and give back its memory."""
    _forget_admission(requests, replicas, row, request)
    prompt, output = requests.prompt[request], requests.output[request]
    requests.last[request] = now
    replicas.free_blocks[row] += blocks
    replicas.present[row] -= 1
    replicas.outstanding[row] -= prompt + output
    replicas.emptied_at[row] = now
    series, arrival = replicas.series[row], requests.arrival[request]
    series[FINISHED] += 1
    gaps = output - 1
    tpot = (now - requests.first[request]) / gaps if gaps else 0.0  # vLLM observes 0 for one token
    observe(series, TPOT, TOKEN_BOUNDS, tpot, 1)
    observe(series, LATENCY, REQUEST_BOUNDS, now - arrival, 1)
    observe(series, QUEUE_TIME, REQUEST_BOUNDS, requests.admitted[request] - arrival, 1)
    observe(series, INPUT_LENGTH, LENGTH_BOUNDS, prompt, 1)
    observe(series, OUTPUT_LENGTH, LENGTH_BOUNDS, output, 1)


@compiled
def _seconds(law: FloatArray, prefill: int, decoding: int, pairs: float, context: int) -> float:
    tokens = prefill + decoding
    seconds = law[0] + max(law[1], law[2] * tokens) + law[3] * pairs + law[4] * context + law[5] * decoding
    if law[6] > 0:
        seconds -= law[6] * math.expm1(-tokens / law[7])
    return float(seconds)
