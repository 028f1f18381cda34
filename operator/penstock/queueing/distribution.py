"""A distribution of times as its mean and a fixed grid of quantiles: small, picklable, comparable."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.queueing.errors import InvalidParameter

# Dense where objectives are stated; above 99.9 % a sample of 20,000 says nothing.
LEVELS: FloatArray = np.concatenate([np.linspace(0.0, 0.9, 91), np.linspace(0.905, 0.99, 18), [0.995, 0.999]])


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and quantiles (at `LEVELS`) of a time in seconds; all inf where there is no steady state."""

    mean: float
    quantiles: tuple[float, ...]

    @classmethod
    def of_samples(cls, samples: FloatArray) -> Distribution:
        """Return the distribution of equally weighted `samples` (seconds, any shape, not empty)."""
        values = np.sort(samples, axis=None)
        position = LEVELS * (values.size - 1)
        grid = np.interp(position, np.arange(values.size), values)
        return cls(float(values.mean()), tuple(grid.tolist()))

    @classmethod
    def unbounded(cls) -> Distribution:
        """Return what an unstable queue gives: every time grows without bound."""
        return cls(math.inf, (math.inf,) * LEVELS.size)

    def quantile(self, probability: float) -> float:
        """Return the `probability` quantile in seconds, 0 <= probability <= 0.999."""
        if not 0 <= probability <= LEVELS[-1]:
            raise InvalidParameter("probability", f"must be in [0, {LEVELS[-1]}], got {probability!r}")
        if math.isinf(self.mean):
            return math.inf
        return float(np.interp(probability, LEVELS, self.quantiles))

    @property
    def p50(self) -> float:
        """The median."""
        return self.quantile(0.50)

    @property
    def p90(self) -> float:
        """The 90 % quantile."""
        return self.quantile(0.90)

    @property
    def p95(self) -> float:
        """The 95 % quantile."""
        return self.quantile(0.95)

    @property
    def p99(self) -> float:
        """The 99 % quantile."""
        return self.quantile(0.99)
