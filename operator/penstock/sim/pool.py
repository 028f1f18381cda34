"""Replicas come and go: created, starting, ready, draining, gone. Costs run from creation to gone.

Scaling down takes those that are not ready first, the newest before the oldest, then the ones that
became ready last, as a ReplicaSet does. A draining replica gets no requests and answers those it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from penstock.queueing.errors import InvalidParameter
from penstock.sim.run import PoolTimeline, ScaleEvent
from penstock.sim.scenario import LARGEST_FLEET, IntArray, Scenario
from penstock.sim.state import Records, place

# Draining replicas hold their rows: after a collapse of the target a whole fleet may drain beside a new one.
ROWS = 2 * LARGEST_FLEET


@dataclass(slots=True, eq=False)
class Pod:
    """One replica. `row` is None while it starts; `drains_from` is inf while nobody asked it to leave."""

    number: int
    ready_at: float
    row: int | None = None
    drains_from: float = math.inf


class Pool:
    """The target and the pods it has; the fallback's replicas stand in rows of their own."""

    def __init__(self, scenario: Scenario, replicas: Records, random: np.random.Generator) -> None:
        self._scenario, self._replicas, self._random = scenario, replicas, random
        self._free_rows = list(range(ROWS - 1, -1, -1))
        self._created = 0
        self._changes: list[tuple[float, int, int, int]] = []  # at; change of paid, ready, target
        self.starting: list[Pod] = []  # in order of creation
        self.ready: list[Pod] = []  # in order of readiness
        self.draining: list[Pod] = []
        self.number_in_row: dict[int, int] = {}
        self.target = 0
        self.scale_events: list[ScaleEvent] = []
        self.fallback_rows = self._place_fallback()
        for _ in range(scenario.initial_replicas):
            self._create(0.0, 0.0)
        self._retarget(0.0, scenario.initial_replicas)
        self.become_ready(0.0)

    def scale(self, now: float, wanted: int) -> None:
        """Set the target within the scenario's bounds, and create or drain pods to meet it."""
        target = min(max(wanted, self._scenario.min_replicas), self._scenario.max_replicas)
        if target == self.target:
            return
        self.scale_events.append(ScaleEvent(now, self.target, target))
        surplus = self.target - target
        self._retarget(now, target)
        for _ in range(-surplus):
            self._create(now, now + self._scenario.start_up.draw(self._random))
        for _ in range(surplus):
            self._remove(now)

    def become_ready(self, now: float) -> None:
        """Put pods whose time has come behind the balancer."""
        due = [pod for pod in self.starting if pod.ready_at <= now]
        self.starting = [pod for pod in self.starting if pod.ready_at > now]
        for pod in sorted(due, key=lambda pod: pod.ready_at):
            pod.row = self._take_row()
            profile, slow = self._scenario.profile, self._scenario.slow
            if slow is not None and pod.number in slow.replicas:
                profile = profile.at_speed(slow.factor)
            admission = self._scenario.admission
            # Every target has an offset of its own, so that scrapes do not come in a volley.
            offset = float(self._random.random()) * self._scenario.scraping.interval_seconds
            limit = None if admission is None else admission.running_limit
            place(self._replicas, pod.row, profile, limit, now + offset)
            self.number_in_row[pod.row] = pod.number
            self.ready.append(pod)
            self._changes.append((pod.ready_at, 0, 1, 0))

    def release_drained(self) -> list[Pod]:
        """Return the pods that have answered all they had, and free their rows."""
        gone = [pod for pod in self.draining if not self._replicas["present"][_row(pod)]]
        self.draining = [pod for pod in self.draining if pod not in gone]
        for pod in gone:
            row = _row(pod)
            at = max(pod.drains_from, float(self._replicas["emptied_at"][row]))
            self._changes.append((at, -1, 0, 0))
            self._replicas["next_scrape"][row] = math.inf
            self._free_rows.append(row)
            del self.number_in_row[row]
        return gone

    def next_ready(self) -> float:
        """Return when the next pod becomes ready; inf if none is on its way."""
        return min((pod.ready_at for pod in self.starting), default=math.inf)

    def ready_rows(self) -> IntArray:
        """Return the rows behind the balancer."""
        return np.array([_row(pod) for pod in self.ready], np.int64)

    def alive_rows(self) -> IntArray:
        """Return the rows that may have work."""
        rows = [_row(pod) for pod in (*self.ready, *self.draining)]
        return np.concatenate([np.array(rows, np.int64), self.fallback_rows])

    def timeline(self) -> PoolTimeline:
        """Return the pool over time; ends of drains are found late, so changes are sorted here."""
        changes = sorted(self._changes, key=lambda change: change[0])
        table = np.array(changes)
        times, first = np.unique(table[:, 0], return_index=True)
        last = np.append(first[1:], len(changes)) - 1
        levels = np.cumsum(table[:, 1:].astype(np.int64), axis=0)[last]
        return PoolTimeline(times, levels[:, 0], levels[:, 1], levels[:, 2])

    def _create(self, now: float, ready_at: float) -> None:
        self.starting.append(Pod(self._created, ready_at))
        self._created += 1
        self._changes.append((now, 1, 0, 0))

    def _remove(self, now: float) -> None:
        if self.starting:
            self.starting.pop()
            self._changes.append((now, -1, 0, 0))
            return
        pod = self.ready.pop()
        pod.drains_from = now
        self.draining.append(pod)
        self._changes.append((now, 0, -1, 0))

    def _retarget(self, now: float, target: int) -> None:
        self._changes.append((now, 0, 0, target - self.target))
        self.target = target

    def _place_fallback(self) -> IntArray:
        fallback = self._scenario.fallback
        rows = []
        for _ in range(fallback.replicas if fallback is not None else 0):
            assert fallback is not None  # noqa: S101
            rows.append(self._take_row())
            place(self._replicas, rows[-1], fallback.profile, fallback.admission.running_limit, math.inf)
        return np.array(rows, np.int64)

    def _take_row(self) -> int:
        if not self._free_rows:
            raise InvalidParameter("replicas", f"ready and draining together are more than {ROWS}")
        return self._free_rows.pop()


def _row(pod: Pod) -> int:
    if pod.row is None:
        raise ValueError(f"replica {pod.number} has not started")
    return pod.row
