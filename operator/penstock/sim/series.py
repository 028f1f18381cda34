"""Where each series of an engine stands in its vector of numbers: gauges, counters, histograms.

One vector per replica is what a scrape copies. A histogram takes one place for its sum and one for each
bucket, with the last for what is above all bounds. Buckets are vLLM's.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.engine.vllm_metrics import REQUEST_BUCKETS, TOKEN_BUCKETS, TTFT_BUCKETS, length_buckets
from penstock.queueing.domain import FloatArray
from penstock.sim.policy_port import Buckets, EngineCounts

LENGTH_BUCKETS = length_buckets(131_072)  # Llama 3.1's context

# Gauges are written at the scrape.
RUNNING, WAITING, KV_USAGE = 0, 1, 2
REQUESTS, FINISHED, PROMPT_TOKENS, GENERATION_TOKENS, PREEMPTIONS, STEPS = 3, 4, 5, 6, 7, 8
_HISTOGRAMS = 9

TTFT_BOUNDS: FloatArray = np.array(TTFT_BUCKETS)
TOKEN_BOUNDS: FloatArray = np.array(TOKEN_BUCKETS)
REQUEST_BOUNDS: FloatArray = np.array(REQUEST_BUCKETS)
LENGTH_BOUNDS: FloatArray = np.array(LENGTH_BUCKETS, dtype=np.float64)

# Each histogram starts with its sum.
TTFT = _HISTOGRAMS
TPOT = TTFT + len(TTFT_BUCKETS) + 2
INTER_TOKEN = TPOT + len(TOKEN_BUCKETS) + 2
QUEUE_TIME = INTER_TOKEN + len(TOKEN_BUCKETS) + 2
LATENCY = QUEUE_TIME + len(REQUEST_BUCKETS) + 2
INPUT_LENGTH = LATENCY + len(REQUEST_BUCKETS) + 2
OUTPUT_LENGTH = INPUT_LENGTH + len(LENGTH_BUCKETS) + 2
SERIES = OUTPUT_LENGTH + len(LENGTH_BUCKETS) + 2


def engine_counts(values: FloatArray) -> EngineCounts:
    """Return increases (or rates) of the counters from a vector of `SERIES` numbers."""
    return EngineCounts(
        requests=float(values[REQUESTS]),
        finished=float(values[FINISHED]),
        prompt_tokens=float(values[PROMPT_TOKENS]),
        generation_tokens=float(values[GENERATION_TOKENS]),
        preemptions=float(values[PREEMPTIONS]),
        steps=float(values[STEPS]),
        ttft_seconds=_histogram(values, TTFT, TTFT_BUCKETS),
        tpot_seconds=_histogram(values, TPOT, TOKEN_BUCKETS),
        inter_token_seconds=_histogram(values, INTER_TOKEN, TOKEN_BUCKETS),
        queue_seconds=_histogram(values, QUEUE_TIME, REQUEST_BUCKETS),
        latency_seconds=_histogram(values, LATENCY, REQUEST_BUCKETS),
        input_lengths=_histogram(values, INPUT_LENGTH, LENGTH_BUCKETS),
        output_lengths=_histogram(values, OUTPUT_LENGTH, LENGTH_BUCKETS),
    )


def _histogram(values: FloatArray, start: int, bounds: tuple[float, ...]) -> Buckets:
    end = start + len(bounds) + 2
    return Buckets((*bounds, math.inf), values[start + 1 : end], float(values[start]))
