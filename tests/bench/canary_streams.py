"""Simulated canaries: what both arms count in every scrape, for thousands of canaries at once.

TTFT is log-normal (median 120 ms, p95 380 ms) in vLLM's buckets, 15 s scrapes, the canary has 10 % of the
requests. Load waves multiply both arms' times by exp(AR(1)) with sd 20 % and 5 minutes of memory; pod noise
multiplies the canary's alone, with 10 minutes of memory. Every judge sees the same counts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from penstock.queueing.domain import FloatArray

SCRAPE_SECONDS, MINUTES = 15.0, 40
SCRAPES = int(MINUTES * 60 / SCRAPE_SECONDS)
STABLE_PER_CANARY = 9.0
MEDIAN_SECONDS, P95_SECONDS = 0.120, 0.380
SIGMA = float(np.log(P95_SECONDS / MEDIAN_SECONDS) / 1.6448536)
# vLLM's edges; those below 20 ms and above 7.5 s hold nothing here.
EDGES = np.array([0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5])
WAVE_SD, WAVE_MEMORY_SECONDS, NOISE_MEMORY_SECONDS = 0.20, 300.0, 600.0
GOOD_ERRORS = 0.001
RATES = (0.2, 1.0, 5.0, 20.0)
ONSET_SCRAPE = int(600 / SCRAPE_SECONDS)


@dataclass(frozen=True, slots=True)
class Cell:
    """One law of the canary: times as slow and share of errors, from `onset` (a scrape) on."""

    name: str
    waves: bool = True
    noise_sd: float = 0.03
    slower: float = 1.0
    errors: float = GOOD_ERRORS
    onset: int = 0
    rate: float = 0.0

    @property
    def healthy(self) -> bool:
        """Whether a rollback would be false."""
        return self.slower == 1.0 and self.errors == GOOD_ERRORS


LAWS = (
    Cell("null iid", waves=False, noise_sd=0.0),
    Cell("null waves", noise_sd=0.0),
    Cell("null noise 3 %"),
    Cell("null noise 6 %", noise_sd=0.06),
    Cell("p95 +20 %", slower=1.2),
    Cell("p95 +50 %", slower=1.5),
    Cell("errors .1->1 %", errors=0.01),
    Cell("errors .1->.3 %", errors=0.003),
    Cell("late p95 +50 %", slower=1.5, onset=ONSET_SCRAPE),
    Cell("late errors 1 %", errors=0.01, onset=ONSET_SCRAPE),
)


def cells() -> Iterator[Cell]:
    """Every law at every rate of the canary."""
    for law in LAWS:
        for rate in RATES:
            yield replace(law, rate=rate)


@dataclass(frozen=True, slots=True)
class Arm:
    """Counts per scrape: requests and errors (scrapes, runs), `slow` per edge (scrapes, runs, edges)."""

    requests: FloatArray
    errors: FloatArray
    slow: FloatArray


@dataclass(frozen=True, slots=True)
class Stream:
    """Both arms of many canaries; the stable one has one scrape more, of the canary's warm-up, at first."""

    stable: Arm
    canary: Arm


def simulate(cell: Cell, runs: int, seed: int) -> Stream:
    """Return the counts of `runs` canaries; the same for the same cell and seed."""
    random = np.random.default_rng([seed, zlib.crc32(f"{cell.name}@{cell.rate}".encode())])
    wave = wander(random, SCRAPES + 1, runs, WAVE_SD if cell.waves else 0.0, WAVE_MEMORY_SECONDS)
    noise = wander(random, SCRAPES + 1, runs, cell.noise_sd, NOISE_MEMORY_SECONDS)[1:]
    bad = (np.arange(SCRAPES) >= cell.onset)[:, None]
    slower = np.where(bad, np.log(cell.slower), 0.0)
    errors = np.where(bad, cell.errors, GOOD_ERRORS)
    stable = _arm(random, STABLE_PER_CANARY * cell.rate, wave, np.full((1, 1), GOOD_ERRORS))
    return Stream(stable, _arm(random, cell.rate, wave[1:] + noise + slower, errors))


def wander(
    random: np.random.Generator, scrapes: int, runs: int, sd: float, memory_seconds: float
) -> FloatArray:
    """Return AR(1) paths (scrapes, runs) of this standard deviation and memory."""
    kept = np.exp(-SCRAPE_SECONDS / memory_seconds)
    steps = random.normal(size=(scrapes, runs))
    values = np.empty(steps.shape)
    values[0] = steps[0]
    for at in range(1, scrapes):
        values[at] = kept * values[at - 1] + np.sqrt(1 - kept**2) * steps[at]
    return sd * values


def _arm(random: np.random.Generator, rate: float, log_slower: FloatArray, errors: FloatArray) -> Arm:
    requests = random.poisson(rate * SCRAPE_SECONDS, size=log_slower.shape)
    normal = (np.log(EDGES / MEDIAN_SECONDS) - log_slower[..., None]) / SIGMA
    slow = slow_requests(random, requests, ndtr(-normal))
    failed = random.binomial(requests, np.broadcast_to(errors, requests.shape))
    return Arm(requests.astype(np.float64), failed.astype(np.float64), slow)


def slow_requests(random: np.random.Generator, requests: FloatArray, above: FloatArray) -> FloatArray:
    """Return how many of the requests (...) exceed each edge, by the shares above (..., edges)."""
    slow = np.empty(above.shape)
    left, previous = requests, np.ones(requests.shape)
    for edge in range(EDGES.size):
        left = random.binomial(left, np.minimum(1.0, above[..., edge] / previous))
        slow[..., edge], previous = left, above[..., edge]
    return slow
