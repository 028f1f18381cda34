"""Prometheus with its gaps: what was scraped, what is visible when, and range queries over it.

`rate` is PromQL's for windows longer than two scrapes: last minus first sample over the time between
them, per replica, then summed; a replica with one sample in the window counts for nothing, and its first
sample ever is a base, not an increase. An instant query finds the newest sample unless the scrape after
it failed, the replica is gone or the sample is older than the look-back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.sim.policy_port import EngineCounts, ReplicaGauges, ReplicaWindow, WindowRates
from penstock.sim.scenario import Scraping
from penstock.sim.series import KV_USAGE, RUNNING, SERIES, WAITING, engine_counts

RETENTION_SECONDS = 1800.0  # of samples: the longest window a policy may ask for


@dataclass(slots=True)
class _Target:
    """The samples of one target, oldest first; from when a scrape failed or it is gone, and only gone."""

    times: list[float] = field(default_factory=list)
    samples: list[FloatArray] = field(default_factory=list)
    missing_from: float = np.inf
    gone_from: float = np.inf

    def add(self, at: float, sample: FloatArray) -> None:
        self.times.append(at)
        self.samples.append(sample)
        self.missing_from = np.inf
        if self.times[0] < at - 2 * RETENTION_SECONDS:  # now and then, not at every sample
            keep = bisect_right(self.times, at - RETENTION_SECONDS)
            del self.times[:keep], self.samples[:keep]

    def window(self, after: float, until: float) -> tuple[int, int]:
        """Return the slice of samples in (after, until]."""
        return bisect_right(self.times, after), bisect_right(self.times, until)


class Prometheus:
    """Samples of replicas (by number) and of the gateway. Satisfies `policy_port.RangeQueries`."""

    def __init__(self, scraping: Scraping, random: np.random.Generator) -> None:
        self._scraping, self._random = scraping, random
        self._targets: dict[int, _Target] = {}
        self._gateway = _Target()
        self._totals = np.zeros(SERIES)  # increases of targets that were forgotten
        self._bases: dict[int, FloatArray] = {}
        self._answered = False  # whether any sample was ever visible

    def scraped(self, replica: int, at: float, sample: FloatArray) -> None:
        """Take a replica's series as they were at `at`, unless the scrape fails."""
        target = self._targets.setdefault(replica, _Target())
        if self._lost(at):
            if not self.is_down(at):
                target.missing_from = min(target.missing_from, at)
            return
        self._bases.setdefault(replica, sample)
        target.add(at, sample)

    def gateway_scraped(self, at: float, offered: float) -> None:
        """Take the gateway's count of requests, unless the scrape fails."""
        if not self._lost(at):
            self._gateway.add(at, np.array([offered]))

    def gone(self, replica: int, at: float) -> None:
        """Mark a replica as no longer discovered; its samples stay for windows."""
        if replica in self._targets:
            target = self._targets[replica]
            target.missing_from, target.gone_from = min(target.missing_from, at), min(target.gone_from, at)

    def is_down(self, at: float) -> bool:
        """Whether Prometheus answers no query and scrapes nothing."""
        return any(start <= at < end for start, end in self._scraping.outages)

    def gauges(self, at: float, draining: Iterable[int]) -> tuple[ReplicaGauges, ...]:
        """Return the newest visible sample of every replica that has one, by replica number."""
        if self.is_down(at):
            return ()
        seen, leaving = self._visible(at), frozenset(draining)
        found = []
        for replica, target in sorted(self._targets.items()):
            count = bisect_right(target.times, seen)
            if not count or target.missing_from <= seen:
                continue
            age = at - target.times[count - 1]
            if age > self._scraping.staleness_seconds:
                continue
            sample = target.samples[count - 1]
            found.append(
                ReplicaGauges(
                    replica,
                    age,
                    int(sample[RUNNING]),
                    int(sample[WAITING]),
                    float(sample[KV_USAGE]),
                    replica in leaving,
                )
            )
        return tuple(found)

    def counters(self, at: float) -> EngineCounts | None:
        """Return increases since the start over all replicas; None while there is no sample."""
        if self.is_down(at):
            return None
        total, seen = self._totals.copy(), self._visible(at)
        for replica, target in list(self._targets.items()):
            count = bisect_right(target.times, seen)
            if not count:
                continue
            self._answered = True
            increase = target.samples[count - 1] - self._bases[replica]
            total += increase
            if target.missing_from < at - RETENTION_SECONDS:
                # Gone for longer than any window: only what it added to the totals is kept.
                self._totals += increase
                del self._targets[replica], self._bases[replica]
        return engine_counts(total) if self._answered else None

    def rates(self, at: float, window_seconds: float) -> WindowRates | None:
        """Return rates over the window that ends at `at`; None without two samples of any replica."""
        if self.is_down(at):
            return None
        until = self._visible(at)
        total, growth, counted = np.zeros(SERIES), 0.0, 0
        for target in self._targets.values():
            first, end = target.window(at - window_seconds, until)
            if end - first < 2:
                continue
            counted += 1
            span = target.times[end - 1] - target.times[first]
            total += (target.samples[end - 1] - target.samples[first]) / span
            growth += _slope(target.times[first:end], [s[WAITING] for s in target.samples[first:end]])
        if not counted:
            return None
        return WindowRates(window_seconds, counted, engine_counts(total), growth)

    def offered_rate(self, at: float, window_seconds: float) -> float | None:
        """Return requests per second at the gateway; None without two samples."""
        if self.is_down(at):
            return None
        target = self._gateway
        first, end = target.window(at - window_seconds, self._visible(at))
        if end - first < 2:
            return None
        increase = float(target.samples[end - 1][0] - target.samples[first][0])
        return increase / (target.times[end - 1] - target.times[first])

    def over(self, at: float, window_seconds: float) -> tuple[ReplicaWindow, ...]:
        """Return gauges over the window that ends at `at`, by replica number, the gone ones left out."""
        if self.is_down(at):
            return ()
        until, found = self._visible(at), []
        for replica, target in sorted(self._targets.items()):
            first, end = target.window(at - window_seconds, until)
            if first == end or target.gone_from <= until:  # a missed scrape leaves the samples before it
                continue
            rows = np.array([s[: KV_USAGE + 1] for s in target.samples[first:end]])
            mean, peak = rows.mean(axis=0), rows.max(axis=0)
            found.append(
                ReplicaWindow(
                    replica, end - first,
                    float(mean[RUNNING]), float(mean[WAITING]), float(mean[KV_USAGE]),
                    int(peak[RUNNING]), int(peak[WAITING]), float(peak[KV_USAGE]),
                )
            )  # fmt: skip
        return tuple(found)

    def _visible(self, at: float) -> float:
        return at - self._scraping.delay_seconds

    def _lost(self, at: float) -> bool:
        chance = float(self._random.random())  # drawn in any case: an outage must not shift the luck
        return self.is_down(at) or chance < self._scraping.missed_ratio


def _slope(times: list[float], values: list[float]) -> float:
    """Return the least-squares slope, as PromQL's deriv."""
    count = len(times)
    mean_time, mean = sum(times) / count, sum(values) / count
    spread = sum((t - mean_time) ** 2 for t in times)
    return float(sum((t - mean_time) * (v - mean) for t, v in zip(times, values, strict=True)) / spread)
