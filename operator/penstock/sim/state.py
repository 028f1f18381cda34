"""The simulation's memory: one array a field, by request or by replica row, for the compiled loops.

Queues are linked lists through the requests, so that nothing is allocated while it runs: the waiting
queue and the order of admission share one pair of links, as no request is in both. A row is the place of
a replica; it is used again by another one when its replica is gone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.engine.batch_loop import BLOCK_TOKENS
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.scenario import IntArray
from penstock.sim.series import SERIES

NOBODY = -1


class Requests(NamedTuple):
    """By request number. Times are NaN until they happen."""

    arrival: FloatArray
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]
    admitted: FloatArray  # first time
    first: FloatArray
    last: FloatArray
    token_at: FloatArray  # of its newest token, set when it is preempted
    made: NDArray[np.int32]  # output tokens it had when it entered the batch (again)
    entered: IntArray  # step that made the first token of this stay
    status: NDArray[np.int8]
    after: NDArray[np.int32]  # behind it in the waiting queue, or admitted after it
    before: NDArray[np.int32]  # admitted before it
    leaves_after: NDArray[np.int32]  # others whose last token is made by the same step
    leaves_before: NDArray[np.int32]
    chance: FloatArray  # two uniform numbers each, for the balancer


class Replicas(NamedTuple):
    """By row."""

    law: FloatArray  # t0, tw, g, a, e, h, m, n0 (seconds)
    slots: IntArray
    blocks: IntArray  # of KV memory
    step_budget: IntArray  # tokens
    ends: FloatArray  # of the step in progress; inf while it sleeps
    began: FloatArray
    step: IntArray  # number of the step in progress
    present: IntArray  # waiting and running
    running: IntArray
    decoding: IntArray
    context: IntArray  # tokens held by the decoding sequences
    free_blocks: IntArray
    partial: IntArray  # the one prompt that was cut; always the one admitted last
    partial_done: IntArray
    prefilled: IntArray  # first of those that complete their prompt in this step
    queue_head: IntArray
    queue_tail: IntArray
    newest: IntArray  # admitted last
    outstanding: IntArray  # prompt and output tokens of the requests present
    emptied_at: FloatArray  # when the last request left
    block_phase: IntArray  # [row, 16]: decoding sequences that need a block in step k mod 16
    leaving: NDArray[np.int32]  # [row, ring]: first of those that leave with step k mod ring
    series: FloatArray  # [row, SERIES]
    next_scrape: FloatArray


class Gateway(NamedTuple):
    """What all replicas have in common."""

    offered: IntArray  # [1]: requests that came
    next_request: IntArray  # [1]
    turn: IntArray  # [1]: of round robin


class ScrapeLog(NamedTuple):
    """Scrapes since it was last emptied."""

    taken: IntArray  # [1]: how many
    at: FloatArray
    row: IntArray
    values: FloatArray


def new_requests(
    arrivals: FloatArray, prompts: IntArray, outputs: IntArray, random: np.random.Generator
) -> Requests:
    """Return requests that have not arrived."""
    count = arrivals.size

    def never() -> FloatArray:
        return np.full(count, np.nan)

    def nobody() -> NDArray[np.int32]:
        return np.full(count, NOBODY, np.int32)

    return Requests(
        arrival=arrivals, prompt=prompts.astype(np.int32), output=outputs.astype(np.int32),
        admitted=never(), first=never(), last=never(), token_at=never(),
        made=np.zeros(count, np.int32), entered=np.zeros(count, np.int64), status=np.zeros(count, np.int8),
        after=nobody(), before=nobody(), leaves_after=nobody(), leaves_before=nobody(),
        chance=random.random((count, 2)),
    )  # fmt: skip


def new_replicas(rows: int, longest_output: int) -> Replicas:
    """Return `rows` empty places; `place` makes a replica of one."""

    def whole(value: int = 0) -> IntArray:
        return np.full(rows, value, np.int64)

    ring = 1 << int(longest_output).bit_length()  # more than any sequence decodes
    return Replicas(
        law=np.zeros((rows, 8)),
        slots=whole(), blocks=whole(), step_budget=whole(),
        ends=np.full(rows, np.inf), began=np.zeros(rows), step=whole(),
        present=whole(), running=whole(), decoding=whole(), context=whole(), free_blocks=whole(),
        partial=whole(NOBODY), partial_done=whole(), prefilled=whole(NOBODY),
        queue_head=whole(NOBODY), queue_tail=whole(NOBODY), newest=whole(NOBODY),
        outstanding=whole(), emptied_at=np.zeros(rows),
        block_phase=np.zeros((rows, BLOCK_TOKENS), np.int64),
        leaving=np.full((rows, ring), NOBODY, np.int32),
        series=np.zeros((rows, SERIES)),
        next_scrape=np.full(rows, np.inf),
    )  # fmt: skip


def place(
    replicas: Replicas, row: int, profile: EngineProfile, running_limit: int | None, next_scrape: float
) -> None:
    """Put a fresh replica into an empty row; its first scrape is at `next_scrape`."""
    law = profile.step_law
    replicas.law[row] = (
        law.base_seconds, law.weights_seconds, law.per_token_seconds, law.per_token_pair_seconds,
        law.per_kv_token_seconds, law.per_sequence_seconds, law.experts_seconds, law.experts_tokens,
    )  # fmt: skip
    slots = min(profile.max_sequences, profile.step_token_budget)
    replicas.slots[row] = slots if running_limit is None else min(slots, running_limit)
    replicas.blocks[row] = replicas.free_blocks[row] = int(profile.kv_capacity_tokens) // BLOCK_TOKENS
    replicas.step_budget[row] = profile.step_token_budget
    replicas.series[row] = 0.0
    replicas.next_scrape[row] = next_scrape


def new_scrape_log(size: int) -> ScrapeLog:
    """Return room for `size` scrapes."""
    return ScrapeLog(
        np.zeros(1, np.int64), np.zeros(size), np.zeros(size, np.int64), np.zeros((size, SERIES))
    )


def new_gateway() -> Gateway:
    """Return a gateway that has seen nothing."""
    return Gateway(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))
