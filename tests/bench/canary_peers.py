"""Other tools' verdicts on the same streams, as their sources have them.

Flagger (pkg/controller/scheduler.go): every minute success rate and request duration of the last minute
against fixed thresholds; failed checks are counted and never reset; rollback when they reach `threshold`.
Argo Rollouts (analysis/analysis.go): the same queries; fails when failures exceed `failureLimit`.
Kayenta (NetflixACAJudge, MannWhitney): per-minute values of both arms, 98 % interval of the shift by the
inverted Mann-Whitney test; High where its lower end is above 0.25 times the Hodges-Lehmann estimate.
Thresholds as a user would set them for "+15 %": success >= 99 %, p95 <= 1.15 times the p95 that
histogram_quantile shows of the stable arm in calm weather (442 ms: buckets are coarse, the true one is 380).
"""

from __future__ import annotations

import numpy as np

from bench.canary_streams import EDGES, SCRAPE_SECONDS, Arm, Stream
from penstock.queueing.domain import FloatArray

NEVER = 10**6
SCRAPES_PER_MINUTE = int(60 / SCRAPE_SECONDS)
LEAST_SUCCESS_RATIO, P95_LIMIT_SECONDS = 0.99, 1.15 * 0.442
# Kayenta's defaults: looks every ten minutes over all minutes so far; 75 points or the canary is ended.
KAYENTA_EVERY_MINUTES, KAYENTA_CONFIDENCE_Z, KAYENTA_TOLERANCE = 10, 2.3263479, 0.25


def threshold_judge(stream: Stream, failures: int) -> FloatArray:
    """Return the scrape of the rollback per run when `failures` checks have failed (NEVER: none)."""
    p95, error_share = per_minute(stream.canary)
    # An empty minute has no value: failed for Flagger, inconclusive for Argo. At 0.2 req/s 1 in 10^5 is.
    failed = (p95 > P95_LIMIT_SECONDS) | (1 - error_share < LEAST_SUCCESS_RATIO)
    reached = np.cumsum(failed, axis=0) >= failures
    return _first_minute(reached)


def kayenta(stream: Stream) -> FloatArray:
    """Return the scrape of the first look at which a metric is High (NEVER: none)."""
    every = stream.stable
    stable = Arm(every.requests[1:], every.errors[1:], every.slow[1:])
    pairs = list(zip(per_minute(stream.canary), per_minute(stable), strict=True))
    minutes, runs = pairs[0][0].shape
    high = np.zeros((minutes, runs), dtype=bool)
    for minute in range(KAYENTA_EVERY_MINUTES, minutes + 1, KAYENTA_EVERY_MINUTES):
        for canary, control in pairs:  # one of two High: 50 points
            high[minute - 1] |= _is_high(canary[:minute], control[:minute])
    return _first_minute(high)


def _is_high(canary: FloatArray, control: FloatArray) -> FloatArray:
    """Return whether canary is High, per run (columns); NaN minutes are left out (Kayenta's default)."""
    runs = canary.shape[1]
    shifts = np.sort((canary[:, None, :] - control[None, :, :]).reshape(-1, runs), axis=0)  # NaN last
    n, m = (np.count_nonzero(~np.isnan(values), axis=0) for values in (canary, control))
    pairs = n * m
    middle = np.take_along_axis(shifts, np.maximum(pairs // 2, 0)[None, :], axis=0)[0]
    reach = KAYENTA_CONFIDENCE_Z * np.sqrt(pairs * (n + m + 1) / 12.0)
    rank = np.clip(np.floor(pairs / 2.0 - reach), 0, np.maximum(pairs - 1, 0)).astype(int)
    low = np.take_along_axis(shifts, rank[None, :], axis=0)[0]
    effect = np.nanmean(canary, axis=0) >= np.nanmean(control, axis=0)
    varied = np.nanmax(canary, axis=0) > np.nanmin(canary, axis=0)
    return (low > KAYENTA_TOLERANCE * np.abs(middle)) & (low > 0) & effect & varied


def per_minute(arm: Arm) -> tuple[FloatArray, FloatArray]:
    """Return p95 by histogram_quantile and the error share of every minute (minutes, runs); NaN: none."""
    requests, errors, slow = (
        column.reshape(-1, SCRAPES_PER_MINUTE, *column.shape[1:]).sum(axis=1)
        for column in (arm.requests, arm.errors, arm.slow)
    )
    rank = 0.95 * requests[..., None]
    below = np.concatenate([requests[..., None] - slow, requests[..., None]], axis=-1)
    at = np.argmax(below >= rank, axis=-1)
    edges, starts = np.append(EDGES, EDGES[-1]), np.concatenate([[0.0], EDGES])
    before = np.take_along_axis(below, np.maximum(at - 1, 0)[..., None], axis=-1)[..., 0] * (at > 0)
    inside = np.take_along_axis(below, at[..., None], axis=-1)[..., 0] - before
    with np.errstate(invalid="ignore", divide="ignore"):
        p95 = starts[at] + (edges[at] - starts[at]) * (rank[..., 0] - before) / inside
        return np.where(requests > 0, p95, np.nan), errors / requests


def _first_minute(reached: FloatArray) -> FloatArray:
    minute = np.where(reached.any(axis=0), reached.argmax(axis=0), NEVER)
    return np.where(minute < NEVER, (minute + 1) * SCRAPES_PER_MINUTE - 1, NEVER)
