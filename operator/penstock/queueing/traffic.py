"""The shape of the traffic: prompt and output lengths, as moments and as a quantised joint sample.

    kvres = E[(o-1)(i + o/2)] / E[o-1]

is the context a decoding sequence holds on average, weighted by its decode time. A shape keeps
`STRATA` equally likely (input, output) pairs: the stratum means of the two marginal laws, paired as they
were seen, or by a fixed low-discrepancy permutation when only the marginals are known. Means of strata
keep the mean exact where plain quantiles lose 3 % of a log-normal with SCV 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from penstock.queueing.domain import FloatArray, positive
from penstock.queueing.errors import InvalidParameter

STRATA = 4096  # 1024 lose 10 % of the p99 of TPOT at SCV 1: the few very long prompts
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_GROUPS = 64
_FINE = 8  # points a stratum


@dataclass(frozen=True, slots=True, eq=False)
class TrafficShape:
    """Equally likely pairs of prompt and output lengths (tokens), and their moments. Compared by value."""

    input_lengths: FloatArray
    output_lengths: FloatArray
    input_mean: float  # E[i]
    input_second_moment: float  # E[i^2]
    output_mean: float  # E[o]
    decode_steps_mean: float  # E[o-1]: the prompt's own step makes the first token
    kv_token_steps: float  # E[(o-1)(i+o/2)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TrafficShape):
            return NotImplemented
        return np.array_equal(self.input_lengths, other.input_lengths) and np.array_equal(
            self.output_lengths, other.output_lengths
        )

    def __hash__(self) -> int:
        return hash((self.input_mean, self.input_second_moment, self.output_mean, self.kv_token_steps))

    @classmethod
    def from_lengths(
        cls, inputs: Sequence[float] | FloatArray, outputs: Sequence[float] | FloatArray
    ) -> TrafficShape:
        """Return the shape of paired lengths as seen in a trace; the moments are those of all pairs."""
        i, o = _lengths("inputs", inputs), _lengths("outputs", outputs)
        if i.size != o.size:
            raise InvalidParameter(
                "outputs", f"must have as many entries as inputs, got {o.size} for {i.size}"
            )
        # Groups by prompt length, in a group by output length, then evenly: both marginals are kept.
        group = np.argsort(np.argsort(i, kind="stable")) * _GROUPS // i.size
        order = np.lexsort((o, group))
        chosen = order[((np.arange(min(STRATA, i.size)) + 0.5) * max(1.0, i.size / STRATA)).astype(int)]
        return cls._of(i[chosen], o[chosen], i, o)

    @classmethod
    def lognormal(
        cls,
        input_mean: float,
        output_mean: float,
        scv: float = 1.0,
        *,
        input_scv: float | None = None,
        output_scv: float | None = None,
    ) -> TrafficShape:
        """Return independent log-normal lengths: means in tokens, squared coefficients of variation."""
        return cls._independent(
            _lognormal_strata("input_mean", input_mean, scv if input_scv is None else input_scv),
            _lognormal_strata("output_mean", output_mean, scv if output_scv is None else output_scv),
        )

    @classmethod
    def uniform(cls, input_mean: float, output_mean: float, spread: float = 0.5) -> TrafficShape:
        """Return independent lengths, uniform in mean x (1 - spread) .. mean x (1 + spread)."""
        position = (np.arange(STRATA) + 0.5) / STRATA * 2 - 1
        means = positive("input_mean", input_mean), positive("output_mean", output_mean)
        return cls._independent(*(np.maximum(1.0, mean * (1 + spread * position)) for mean in means))

    @classmethod
    def constant(cls, input_tokens: float, output_tokens: float) -> TrafficShape:
        """Return the shape where all requests are alike."""
        return cls.from_lengths([input_tokens], [output_tokens])

    @classmethod
    def from_histograms(
        cls,
        *,
        input_bounds: Sequence[float],
        input_counts: Sequence[float],
        output_bounds: Sequence[float],
        output_counts: Sequence[float],
        input_mean: float | None = None,
        output_mean: float | None = None,
    ) -> TrafficShape:
        """Return the shape of two histograms: ascending upper bounds (the last may be inf), counts.

        Lengths are log-uniform within a bucket, then scaled so that the means are those given.
        """
        return cls._independent(
            _histogram_strata("input", input_bounds, input_counts, input_mean),
            _histogram_strata("output", output_bounds, output_counts, output_mean),
        )

    @property
    def kv_resident_tokens(self) -> float:
        """Context a decoding sequence holds, averaged over decode steps (kvres)."""
        if not self.decode_steps_mean:
            return self.input_mean
        return self.kv_token_steps / self.decode_steps_mean

    @property
    def kv_resident_sd_tokens(self) -> float:
        """Standard deviation of that context: among requests, and over the life of each."""
        steps = np.maximum(self.output_lengths - 1.0, 0.0)
        if not steps.any():
            return self.input_mean * math.sqrt(self.input_scv)
        i, o = self.input_lengths, self.output_lengths
        mean, square = (
            float(np.average(each, weights=steps)) for each in (i + o / 2, i * i + i * o + o * o / 3)
        )
        return math.sqrt(max(0.0, square - mean * mean))

    @property
    def input_scv(self) -> float:
        """Squared coefficient of variation of the prompt length."""
        return max(0.0, self.input_second_moment / self.input_mean**2 - 1.0)

    @property
    def output_scv(self) -> float:
        """Squared coefficient of variation of the output length (of the sample)."""
        square = float(np.mean(np.square(self.output_lengths)))
        return max(0.0, square / self.output_mean**2 - 1.0)

    def cell(self, ratio: float = 1.1) -> TrafficShape:
        """Return the log-normal shape at the middle of this shape's cell of a logarithmic grid.

        Means are snapped to powers of `ratio`, 1 + SCV to powers of its square: equal cells are equal
        (and hash alike), so a fleet shares its solved tables.
        """
        step = math.log(positive("ratio", ratio))
        i, o = (math.exp(round(math.log(mean) / step) * step) for mean in (self.input_mean, self.output_mean))
        scv_i, scv_o = (
            math.exp(round(math.log1p(scv) / (2 * step)) * 2 * step) - 1.0
            for scv in (self.input_scv, self.output_scv)
        )
        return TrafficShape.lognormal(i, o, input_scv=scv_i, output_scv=scv_o)

    def sample(self, count: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return `count` pairs (inputs, outputs): shuffled rounds of the sample, so tails are not luck."""
        size = self.input_lengths.size
        rounds = -(-count // size)
        index = random.permuted(np.tile(np.arange(size), (rounds, 1)), axis=1).ravel()[:count]
        return self.input_lengths[index], self.output_lengths[index]

    @classmethod
    def _independent(cls, inputs: FloatArray, outputs: FloatArray) -> TrafficShape:
        # Ranks of the multiples of the golden ratio: a permutation that spreads every run of inputs
        # evenly over the outputs, so that E[i o] = E[i] E[o] to 0.1 %.
        pairing = np.argsort(np.argsort(np.arange(1, STRATA + 1) * _GOLDEN % 1.0))
        paired = outputs[pairing]
        return cls._of(inputs, paired, inputs, paired)

    @classmethod
    def _of(cls, sample_i: FloatArray, sample_o: FloatArray, i: FloatArray, o: FloatArray) -> TrafficShape:
        for sample in (sample_i, sample_o):
            sample.setflags(write=False)
        return cls(
            input_lengths=sample_i,
            output_lengths=sample_o,
            input_mean=float(i.mean()),
            input_second_moment=float(np.square(i).mean()),
            output_mean=float(o.mean()),
            decode_steps_mean=float(o.mean() - 1.0),
            kv_token_steps=float(np.mean((o - 1.0) * (i + o / 2.0))),
        )


def _lengths(name: str, values: Sequence[float] | FloatArray) -> FloatArray:
    lengths = np.asarray(values, dtype=np.float64)
    if lengths.ndim != 1 or not lengths.size:
        raise InvalidParameter(name, "must be a non-empty sequence of lengths")
    if not (np.isfinite(lengths).all() and (lengths >= 1).all()):
        raise InvalidParameter(name, "must all be finite and at least one token")
    return lengths


def _lognormal_strata(name: str, mean: float, scv: float) -> FloatArray:
    if not 1 <= mean < np.inf:
        raise InvalidParameter(name, f"must be at least one token, got {mean!r}")
    if not 0 <= scv < np.inf:
        raise InvalidParameter("scv", f"must be a finite number >= 0, got {scv!r}")
    variance = math.log1p(scv)
    sigma = math.sqrt(variance)
    edges = special.ndtri(np.arange(STRATA + 1) / STRATA)
    # Partial expectations of the log-normal: mean x (Phi(z1 - sigma) - Phi(z0 - sigma)) per stratum.
    strata = mean * STRATA * np.diff(special.ndtr(edges - sigma))
    return _at_least_one(strata, mean)


def _histogram_strata(
    name: str, bounds: Sequence[float], counts: Sequence[float], mean: float | None
) -> FloatArray:
    upper, weight = np.asarray(bounds, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if upper.shape != weight.shape or upper.ndim != 1 or not weight.sum() > 0 or (weight < 0).any():
        raise InvalidParameter(f"{name}_counts", "must hold one count >= 0 per bound, not all zero")
    low = np.concatenate([[1.0], np.maximum(1.0, upper[:-1])])
    # The open last bucket has no upper edge: twice its lower one is as good as anything.
    high = np.maximum(np.where(np.isfinite(upper), upper, 2.0 * low), low)
    share = np.concatenate([[0.0], np.cumsum(weight / weight.sum())])
    level = (np.arange(STRATA * _FINE) + 0.5) / (STRATA * _FINE)
    bucket = np.clip(np.searchsorted(share, level, side="right") - 1, 0, upper.size - 1)
    within = (level - share[bucket]) / np.maximum(share[bucket + 1] - share[bucket], 1e-300)
    fine = low[bucket] * (high[bucket] / low[bucket]) ** np.clip(within, 0.0, 1.0)
    strata = fine.reshape(STRATA, _FINE).mean(axis=1)
    return strata if mean is None else _at_least_one(strata * (mean / strata.mean()), mean)


def _at_least_one(strata: FloatArray, mean: float) -> FloatArray:
    """Clip to one token and take the excess from the others, so that the mean stays."""
    if strata.min() >= 1.0 or mean <= 1.0:
        return np.maximum(strata, 1.0)
    above = np.maximum(strata - 1.0, 0.0)
    return np.asarray(1.0 + above * ((mean - 1.0) / above.mean()))
