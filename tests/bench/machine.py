"""How much the same work varies on this machine: no percentile of a benchmark can be quieter than that.

python tests/bench/machine.py     # 40 times the same walk over 200,000 objects, a second each at most
"""

from __future__ import annotations

import os
import random
import sys
import time

import numpy as np

OBJECTS, WALKS, PIECES = 200_000, 8, 40


def same_work(cores: set[int], pieces: int = PIECES) -> list[float]:
    """Return what `pieces` equal walks over a heap in random order took on `cores`, in CPU seconds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        heap = [{"rate": float(number)} for number in range(OBJECTS)]
        random.Random(1).shuffle(heap)
        took = []
        for _ in range(pieces):
            began, total = time.process_time(), 0.0
            for _ in range(WALKS):
                for each in heap:
                    total += each["rate"]
            took.append(time.process_time() - began)
            time.sleep(0.2)
        return took
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Print the figures."""
    took = same_work(os.sched_getaffinity(0))
    p50, p99 = np.quantile(took, [0.5, 0.99])
    sys.stdout.write(
        f"the same work {len(took)} times: p50 {p50:.3f} s, p99 {p99:.3f} s, {p99 / p50:.2f} times\n"
    )


if __name__ == "__main__":
    main()
