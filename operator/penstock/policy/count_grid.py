"""Between the replica counts that were solved: curves and limits are smooth in log N."""

from __future__ import annotations

import bisect
import math


def bracket(counts: tuple[int, ...], replicas: int) -> tuple[int, int, float]:
    """Return the neighbours of `replicas` among `counts` and its place between them on a log scale."""
    if replicas >= counts[-1]:
        return len(counts) - 1, len(counts) - 1, 0.0
    k = bisect.bisect_right(counts, replicas) - 1
    if counts[k] == replicas:
        return k, k, 0.0
    return k, k + 1, math.log(replicas / counts[k]) / math.log(counts[k + 1] / counts[k])
