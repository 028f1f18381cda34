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
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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
from penstock.sim.state import NOBODY, Records, Replica, Request

_PHASES = BLOCK_TOKENS - 1
Calendar: TypeAlias = NDArray[np.int32]  # [step mod size]: first of the requests that leave with it


@compiled
def observe(series: FloatArray, histogram: int, bounds: FloatArray, value: float, times: int) -> None:
    """Count `times` observations of `value`."""
    bucket = 0
    while bucket < bounds.size and value > bounds[bucket]:
        bucket += 1
    series[histogram] += value * times
    series[histogram + 1 + bucket] += times


@compiled
def begin_step(requests: Records, replica: Replica, calendar: Calendar, now: float) -> None:
    """Choose the work of the step that starts at `now`; without any the engine sleeps."""
    replica.step += 1
    needed = replica.block_phase[replica.step & _PHASES]
    preempted = False
    # The last sequence stays: alone it fits, as the scenario was checked for.
    while needed > replica.free_blocks and replica.running > 1:
        needed -= _preempt_newest(requests, replica, calendar, now)
        preempted = True
    replica.free_blocks -= needed
    decoding = replica.decoding
    budget = replica.step_budget - decoding
    prefill, pairs = 0, 0.0
    if replica.partial != NOBODY and budget > 0:
        done = replica.partial_done
        chunk = min(_known(requests[replica.partial]) - done, budget)
        pairs += chunk * (done + chunk / 2)
        prefill += chunk
        _compute(requests, replica, chunk)
    while not preempted and budget > prefill and replica.running < replica.slots:
        head = replica.queue_head
        if head == NOBODY:
            break
        known = _known(requests[head])
        if _blocks(known) > replica.free_blocks:
            break
        _admit(requests, replica, now)
        chunk = min(known, budget - prefill)
        pairs += chunk * (chunk / 2)
        prefill += chunk
        _compute(requests, replica, chunk)
    if prefill == 0 and decoding == 0:
        replica.ends = np.inf
        return
    replica.began = now
    replica.ends = now + _seconds(replica.law, prefill, decoding, pairs, replica.context)


@compiled
def finish_step(requests: Records, replica: Replica, calendar: Calendar) -> None:
    """Hand out the tokens of the step that ends at `ends`."""
    now, series, decoding = replica.ends, replica.series, replica.decoding
    series[STEPS] += 1
    if decoding:
        series[GENERATION_TOKENS] += decoding
        observe(series, INTER_TOKEN, TOKEN_BOUNDS, now - replica.began, decoding)
        replica.context += decoding
    place = replica.step & (calendar.size - 1)
    number = calendar[place]
    calendar[place] = NOBODY
    while number != NOBODY:
        request = requests[number]
        following = request.leaves_after
        held = _known(request) + replica.step - request.entered
        replica.decoding -= 1
        replica.context -= held
        replica.block_phase[_phase(request)] -= 1
        _leave(requests, replica, number, _blocks(held), now)
        number = following
    number = replica.prefilled
    replica.prefilled = NOBODY
    while number != NOBODY:
        request = requests[number]
        following = request.leaves_after
        series[GENERATION_TOKENS] += 1
        if request.made == 0:
            request.first = now
            series[REQUESTS] += 1
            series[PROMPT_TOKENS] += request.prompt
            observe(series, TTFT, TTFT_BOUNDS, now - request.arrival, 1)
        else:
            observe(series, INTER_TOKEN, TOKEN_BOUNDS, now - request.token_at, 1)
        request.entered = replica.step
        if request.output - request.made == 1:
            _leave(requests, replica, number, _blocks(_known(request)), now)
        else:
            _enter(requests, replica, calendar, number)
        number = following


@compiled
def queue_request(requests: Records, replica: Replica, number: int) -> None:
    """Put a request at the end of the engine's queue."""
    request = requests[number]
    request.after = NOBODY
    if replica.queue_tail == NOBODY:
        replica.queue_head = number
    else:
        requests[replica.queue_tail].after = number
    replica.queue_tail = number
    replica.present += 1
    replica.outstanding += request.prompt + request.output


@compiled
def _known(request: Request) -> int:
    """Return the tokens that must be computed before the next: prompt and what was generated."""
    return request.prompt + request.made


@compiled
def _blocks(tokens: int) -> int:
    """Return the KV blocks that hold `tokens`."""
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@compiled
def _phase(request: Request) -> int:
    """Return k: the sequence starts a new block in every step that is k mod 16."""
    return (request.entered + 1 - _known(request)) & _PHASES


@compiled
def _admit(requests: Records, replica: Replica, now: float) -> None:
    """Move the head of the queue into the batch, with the KV blocks of all it knows."""
    number = replica.queue_head
    request = requests[number]
    replica.queue_head = request.after
    if replica.queue_head == NOBODY:
        replica.queue_tail = NOBODY
    request.before, request.after = replica.newest, NOBODY
    if replica.newest != NOBODY:
        requests[replica.newest].after = number
    replica.newest = number
    replica.running += 1
    replica.free_blocks -= _blocks(_known(request))
    replica.partial, replica.partial_done = number, 0
    if math.isnan(request.admitted):
        request.admitted = now


@compiled
def _compute(requests: Records, replica: Replica, chunk: int) -> None:
    """Count `chunk` tokens of the prompt in work as computed by this step."""
    request = requests[replica.partial]
    replica.partial_done += chunk
    if replica.partial_done == _known(request):
        request.leaves_after = replica.prefilled
        replica.prefilled = replica.partial
        replica.partial = NOBODY


@compiled
def _enter(requests: Records, replica: Replica, calendar: Calendar, number: int) -> None:
    """Start decoding: note the step of its last token and the steps of its new blocks."""
    request = requests[number]
    place = _last_step(request) & (calendar.size - 1)
    other = calendar[place]
    request.leaves_after, request.leaves_before = other, NOBODY
    if other != NOBODY:
        requests[other].leaves_before = number
    calendar[place] = number
    replica.decoding += 1
    replica.context += _known(request)
    replica.block_phase[_phase(request)] += 1


@compiled
def _last_step(request: Request) -> int:
    return request.entered + request.output - request.made - 1


@compiled
def _preempt_newest(requests: Records, replica: Replica, calendar: Calendar, now: float) -> int:
    """Push the sequence admitted last back to the head of the queue; return blocks no longer needed."""
    number, spared = replica.newest, 0
    request = requests[number]
    held = _known(request)
    if number == replica.partial:
        replica.partial = NOBODY
    else:
        decoded = replica.step - 1 - request.entered
        held += decoded
        phase = _phase(request)
        spared = 1 if phase == replica.step & _PHASES else 0
        replica.block_phase[phase] -= 1
        replica.decoding -= 1
        replica.context -= held
        before, after = request.leaves_before, request.leaves_after
        if before == NOBODY:
            calendar[_last_step(request) & (calendar.size - 1)] = after
        else:
            requests[before].leaves_after = after
        if after != NOBODY:
            requests[after].leaves_before = before
        request.made += decoded + 1
        request.token_at = now
    replica.free_blocks += _blocks(held)
    _forget_admission(requests, replica, request)
    request.after = replica.queue_head
    if replica.queue_head == NOBODY:
        replica.queue_tail = number
    replica.queue_head = number
    request.preemptions += 1
    replica.series[PREEMPTIONS] += 1
    return spared


@compiled
def _forget_admission(requests: Records, replica: Replica, request: Request) -> None:
    if request.before != NOBODY:
        requests[request.before].after = request.after
    if request.after == NOBODY:
        replica.newest = request.before
    else:
        requests[request.after].before = request.before
    replica.running -= 1


@compiled
def _leave(requests: Records, replica: Replica, number: int, blocks: int, now: float) -> None:
    """Answer a request and give back its memory."""
    request, series = requests[number], replica.series
    _forget_admission(requests, replica, request)
    request.last = now
    replica.free_blocks += blocks
    replica.present -= 1
    replica.outstanding -= request.prompt + request.output
    replica.emptied_at = now
    series[FINISHED] += 1
    gaps = request.output - 1
    tpot = (now - request.first) / gaps if gaps else 0.0  # vLLM observes 0 for one token
    observe(series, TPOT, TOKEN_BOUNDS, tpot, 1)
    observe(series, LATENCY, REQUEST_BOUNDS, now - request.arrival, 1)
    observe(series, QUEUE_TIME, REQUEST_BOUNDS, request.admitted - request.arrival, 1)
    observe(series, INPUT_LENGTH, LENGTH_BOUNDS, request.prompt, 1)
    observe(series, OUTPUT_LENGTH, LENGTH_BOUNDS, request.output, 1)


@compiled
def _seconds(law: FloatArray, prefill: int, decoding: int, pairs: float, context: int) -> float:
    tokens = prefill + decoding
    seconds = law[0] + max(law[1], law[2] * tokens) + law[3] * pairs + law[4] * context + law[5] * decoding
    if law[6] > 0:
        seconds -= law[6] * math.expm1(-tokens / law[7])
    return float(seconds)
