"""The simulation's memory: tables of numpy records, for the compiled loops.

Queues are linked lists through the requests, so that nothing is allocated while it runs: the waiting
queue and the order of admission share one pair of links, as no request is in both. A row is the place of
a replica; it is used again by another one when its replica is gone. Records and not an array a field: a
step that hands 25 arrays to each of its functions took ten times as long.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.engine.batch_loop import BLOCK_TOKENS
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.sim.scenario import IntArray
from penstock.sim.series import SERIES

Records: TypeAlias = NDArray[np.void]  # an entry is a `Request` or a `Replica`
NOBODY = -1
LAW_TERMS = 8
# The log is emptied every scrape interval at least: one scrape a row, one more at the seam.
SCRAPES_PER_ROW = 2


class Request(Protocol):
    """One record of the table of requests. Times are NaN until they happen."""

    arrival: float
    admitted: float  # first time
    first: float
    last: float
    token_at: float  # of its newest token, set when it is preempted
    entered: int  # step that made the first token of this stay in the batch
    prompt: int
    output: int
    made: int  # output tokens it had when it entered the batch (again)
    status: int
    preemptions: int
    after: int  # behind it in the waiting queue, or admitted after it
    before: int  # admitted before it
    leaves_after: int  # others whose last token is made by the same step
    leaves_before: int
    chance: FloatArray  # two uniform numbers, for the balancer
    diverting: float  # a uniform number, for the planned share of the fallback


class Replica(Protocol):
    """One row of the table of replicas."""

    law: FloatArray  # t0, tw, g, a, e, h, m, n0 (seconds)
    series: FloatArray
    block_phase: IntArray  # [k]: decoding sequences that need a block in step k mod 16
    ends: float  # of the step in progress; inf while it sleeps
    began: float
    emptied_at: float  # when a request last left
    next_scrape: float
    slots: int
    blocks: int  # of KV memory
    step_budget: int  # tokens
    step: int  # number of the step in progress
    present: int  # waiting and running
    running: int
    decoding: int
    context: int  # tokens held by the decoding sequences
    free_blocks: int
    partial: int  # the one prompt that was cut; always the one admitted last
    partial_done: int
    prefilled: int  # first of those that complete their prompt in this step
    queue_head: int
    queue_tail: int
    newest: int  # admitted last
    outstanding: int  # prompt and output tokens of the requests present


REQUEST = np.dtype(
    [(name, np.float64) for name in ("arrival", "admitted", "first", "last", "token_at")]
    + [("entered", np.int64)]
    + [
        (name, np.int32)
        for name in (
            "prompt", "output", "made", "status", "preemptions",
            "after", "before", "leaves_after", "leaves_before",
        )
    ]
    + [("chance", np.float64, (2,)), ("diverting", np.float64)],
    align=True,
)  # fmt: skip
REPLICA = np.dtype(
    [(name, np.float64) for name in ("ends", "began", "emptied_at", "next_scrape")]
    + [
        (name, np.int64)
        for name in (
            "slots", "blocks", "step_budget", "step", "present", "running", "decoding", "context",
            "free_blocks", "partial", "partial_done", "prefilled", "queue_head", "queue_tail", "newest",
            "outstanding",
        )
    ]
    + [
        ("law", np.float64, (LAW_TERMS,)),
        ("block_phase", np.int64, (BLOCK_TOKENS,)),
        ("series", np.float64, (SERIES,)),
    ],
    align=True,
)  # fmt: skip


class Fleet(NamedTuple):
    """All that the compiled loops work on."""

    requests: Records  # of REQUEST
    replicas: Records  # of REPLICA
    leaving: NDArray[np.int32]  # [row, step mod size]: first of the requests that leave with that step
    offered: IntArray  # [1]: requests that came to the gateway
    shed: IntArray  # [1]: of these, answered 429
    spilled: IntArray  # [1]: of these, sent to the fallback
    next_request: IntArray  # [1]
    turn: IntArray  # [1]: of round robin
    scrapes: IntArray  # [1]: how many are in the three below
    scraped_at: FloatArray
    scraped_row: IntArray
    scraped: FloatArray  # [scrape, SERIES]


def new_fleet(
    arrivals: FloatArray, prompts: IntArray, outputs: IntArray, *, rows: int, random: np.random.Generator
) -> Fleet:
    """Return requests that have not arrived and empty places for `rows` replicas."""
    requests = np.zeros(arrivals.size, REQUEST)
    for name in ("admitted", "first", "last", "token_at"):
        requests[name] = np.nan
    for name in ("after", "before", "leaves_after", "leaves_before"):
        requests[name] = NOBODY
    requests["arrival"], requests["prompt"], requests["output"] = arrivals, prompts, outputs
    requests["chance"] = random.random((arrivals.size, 2))
    requests["diverting"] = random.random(arrivals.size)
    replicas = np.zeros(rows, REPLICA)
    for name in ("ends", "next_scrape"):
        replicas[name] = np.inf
    for name in ("partial", "prefilled", "queue_head", "queue_tail", "newest"):
        replicas[name] = NOBODY
    ring = 1 << int(outputs.max()).bit_length()  # more steps than any sequence decodes
    scrapes = SCRAPES_PER_ROW * rows
    return Fleet(
        requests=requests,
        replicas=replicas,
        leaving=np.full((rows, ring), NOBODY, np.int32),
        offered=np.zeros(1, np.int64),
        shed=np.zeros(1, np.int64),
        spilled=np.zeros(1, np.int64),
        next_request=np.zeros(1, np.int64),
        turn=np.zeros(1, np.int64),
        scrapes=np.zeros(1, np.int64),
        scraped_at=np.zeros(scrapes),
        scraped_row=np.zeros(scrapes, np.int64),
        scraped=np.zeros((scrapes, SERIES)),
    )


def place(
    replicas: Records, row: int, profile: EngineProfile, running_limit: int | None, next_scrape: float
) -> None:
    """Put a fresh replica into an empty row; its first scrape is at `next_scrape`."""
    law, replica = profile.step_law, replicas[row]
    replica["law"] = (
        law.base_seconds, law.weights_seconds, law.per_token_seconds, law.per_token_pair_seconds,
        law.per_kv_token_seconds, law.per_sequence_seconds, law.experts_seconds, law.experts_tokens,
    )  # fmt: skip
    slots = engine_slots(profile)
    replica["slots"] = slots if running_limit is None else min(slots, running_limit)
    replica["blocks"] = replica["free_blocks"] = int(profile.kv_capacity_tokens) // BLOCK_TOKENS
    replica["step_budget"] = profile.step_token_budget
    replica["series"], replica["emptied_at"] = 0.0, 0.0
    replica["next_scrape"] = next_scrape


def engine_slots(profile: EngineProfile) -> int:
    """Return how many sequences an engine runs at most by itself."""
    return min(profile.max_sequences, profile.step_token_budget)
