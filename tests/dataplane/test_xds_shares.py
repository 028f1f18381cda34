"""Shares of one limit among proxies: what holds for all loads, and how they follow loads that move."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dataplane.envoy.shares import Use, divide, part_of, settle
from penstock.model.traffic import FleetLimit

pytestmark = pytest.mark.timed

LIMITS = st.integers(1, 3000)
LOADS = st.lists(st.tuples(st.integers(0, 3000), st.booleans()), min_size=1, max_size=8)


def uses(*loads: float | None, pressed: Sequence[int] = ()) -> dict[str, Use]:
    return {f"p{index}": Use(load, index in pressed) for index, load in enumerate(loads)}


@given(LIMITS, LOADS)
def test_a_tight_limit_is_never_given_twice(limit: int, loads: list[tuple[int, bool]]) -> None:
    found = divide(limit, {f"p{i}": Use(load, pressed) for i, (load, pressed) in enumerate(loads)})
    total = sum(load for load, _ in loads)
    if limit - total <= 0.1 * limit:
        could_be = sum(max(load, share) for (load, _), share in zip(loads, found.values(), strict=True))
        assert could_be <= max(limit, total) + len(loads)


@given(LIMITS, LOADS)
def test_never_more_than_twice_the_limit_is_handed_out(limit: int, loads: list[tuple[int, bool]]) -> None:
    found = divide(limit, {f"p{i}": Use(load, pressed) for i, (load, pressed) in enumerate(loads)})
    assert sum(found.values()) <= 2 * limit + len(loads)
    assert all(1 <= share <= limit for share in found.values())


@given(LIMITS, st.integers(1, 8))
def test_proxies_of_unknown_load_have_equal_parts(limit: int, count: int) -> None:
    assert set(divide(limit, uses(*[None] * count)).values()) == {max(1, limit // count)}


@given(LIMITS, st.integers(1, 8))
def test_equal_pressed_proxies_have_equal_parts(limit: int, count: int) -> None:
    load = limit / count
    found = divide(limit, uses(*[load] * count, pressed=range(count)))
    assert set(found.values()) == {max(1, limit // count)}


@pytest.mark.parametrize(
    ("limit", "loads", "pressed", "shares"),
    [
        # An idle fleet: a client that comes to one proxy alone must find 60 % of the limit there.
        (100, (0, 0), (), (75, 75)),
        (100, (0, 0, 0), (), (66, 66, 66)),
        (100, (0, 0, 0, 0), (), (50, 50, 50, 50)),
        # One keep-alive client at 60 %: its proxy has room for its swings.
        (100, (60, 0, 0), (), (86, 26, 26)),
        # It wants all: the others keep a tenth of an equal part for whoever comes.
        (100, (86, 0, 0), (0,), (93, 3, 3)),
        (100, (93, 0, 0), (0,), (93, 3, 3)),
        # Overload at both ends in equal parts, whatever was before, as the first gives back.
        (100, (95, 5), (0, 1), (50, 5)),
        (100, (70, 5), (0, 1), (50, 30)),
        (100, (50, 40), (0, 1), (50, 50)),
        # The limit was lowered below what is in flight: nobody gets room.
        (50, (60, 40), (0, 1), (25, 25)),
        # A newcomer that was not heard of has an equal part before it is ready.
        (90, (30, 30, None), (), (30, 30, 30)),
        # A limit below the number of proxies: one each.
        (2, (1, 1, 0), (0, 1, 2), (1, 1, 1)),
        (0, (3, 3), (0, 1), (0, 0)),
        (100, (100,), (0,), (100,)),
    ],
)
def test_shares_follow_what_is_in_flight(
    limit: int, loads: tuple[float | None, ...], pressed: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    assert tuple(divide(limit, uses(*loads, pressed=pressed)).values()) == shares


def lost(*loads: float | None, lost: Sequence[int]) -> dict[str, Use]:
    return {name: replace(use, lost=int(name[1:]) in lost) for name, use in uses(*loads).items()}


@pytest.mark.parametrize(
    ("loads", "gone", "shares"),
    [
        ((50, None), (1,), (100, 50)),
        ((60, 0, None), (2,), (90, 30, 33)),  # those who live share as two would
        ((60, 0, None), (), (61, 4, 34)),  # its part is kept for one that is only late
        ((60, None, None), (1, 2), (33, 33, 33)),  # most are: it may be us who are
        ((None, None), (0, 1), (50, 50)),
    ],
)
def test_who_is_lost_takes_nothing_from_the_others_and_has_an_equal_part_should_it_serve_on(
    loads: tuple[float | None, ...], gone: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    assert tuple(divide(100, lost(*loads, lost=gone)).values()) == shares


@given(LIMITS, LOADS, st.integers(0, 7))
def test_the_lost_add_at_most_half_of_the_limit_and_one_each(
    limit: int, loads: list[tuple[int, bool]], gone: int
) -> None:
    given_all = {f"p{i}": Use(load, pressed) for i, (load, pressed) in enumerate(loads)}
    here = dict(list(given_all.items())[gone:])
    found = divide(limit, given_all | {name: Use(None, lost=True) for name in given_all.keys() - here.keys()})
    if 0 < gone <= len(here):
        assert {name: found[name] for name in here} == divide(limit, here)
        assert sum(found[name] for name in found.keys() - here.keys()) <= limit / 2 + gone


class Fleet:
    """Proxies with streams of exponential length; each second shares are taken anew."""

    def __init__(self, limit: int, proxies: int, *, seed: int = 1, stream_seconds: float = 10.0) -> None:
        self.limit, self.stream_seconds = limit, stream_seconds
        self.load = [0] * proxies
        self.refused = [0] * proxies
        self.admitted = [0] * proxies
        self.share = divide(limit, uses(*[0.0] * proxies))
        self.most = 0
        self.seen: list[int] = []
        self._rng = np.random.default_rng(seed)

    def run(self, seconds: int, rates: Sequence[float]) -> None:
        """Let requests arrive at these rates per second for a while."""
        for _ in range(seconds):
            before = list(self.refused)
            for _ in range(20):
                self._step(rates, 0.05)
            now = {
                f"p{index}": Use(load, self.refused[index] > before[index] or load >= self.share[f"p{index}"])
                for index, load in enumerate(self.load)
            }
            self.share = settle(self.share, divide(self.limit, now), self.limit)

    def _step(self, rates: Sequence[float], seconds: float) -> None:
        for index, rate in enumerate(rates):
            self.load[index] -= self._rng.binomial(
                self.load[index], -math.expm1(-seconds / self.stream_seconds)
            )
            for _ in range(self._rng.poisson(rate * seconds)):
                if self.load[index] < self.share[f"p{index}"]:
                    self.load[index] += 1
                    self.admitted[index] += 1
                else:
                    self.refused[index] += 1
        self.most = max(self.most, sum(self.load))
        self.seen.append(sum(self.load))


@pytest.mark.parametrize("proxies", [2, 3, 5])
@pytest.mark.parametrize("spread", ["even", "skewed"])
def test_a_steady_overload_stays_within_the_limit_and_one_a_proxy(proxies: int, spread: str) -> None:
    fleet = Fleet(100, proxies)
    rates = [30 / proxies] * proxies if spread == "even" else [27.0] + [3 / (proxies - 1)] * (proxies - 1)
    fleet.run(60, rates)
    fleet.most = 0
    fleet.seen.clear()
    fleet.run(120, rates)
    assert fleet.most <= 100 + proxies
    assert np.mean(fleet.seen) >= 85, "the limit is used"


def test_three_proxies_and_one_client_at_60_percent_turn_nobody_away() -> None:
    fleet = Fleet(100, 3)
    fleet.run(20, [6.0, 0.0, 0.0])
    fleet.refused = [0, 0, 0]
    fleet.run(300, [6.0, 0.0, 0.0])
    assert fleet.refused == [0, 0, 0]


def test_a_second_crowd_gets_its_half_within_a_few_streams() -> None:
    fleet = Fleet(100, 2)
    fleet.run(60, [30.0, 0.0])
    assert fleet.load[0] >= 90
    fleet.run(30, [30.0, 30.0])
    assert min(fleet.load) >= 40


@pytest.mark.parametrize("part", [lambda k: k / 2, lambda k: 0.9 * k])
def test_a_client_that_moves_to_another_proxy_is_followed(part: Callable[[float], float]) -> None:
    fleet = Fleet(200, 2)
    rate = part(200) / 10
    fleet.run(60, [rate, 0.0])
    fleet.refused = [0, 0]
    fleet.run(60, [0.0, rate])
    assert fleet.refused[1] <= 0.04 * rate * 60


def test_small_raises_are_not_worth_a_route_and_every_cut_is() -> None:
    assert settle({"a": 50, "b": 50}, {"a": 51, "b": 49}, 100) == {"a": 50, "b": 49}
    assert settle({"a": 50}, {"a": 52}, 100) == {"a": 52}
    assert settle({}, {"a": 1}, 100) == {"a": 1}


@given(LIMITS, st.integers(0, 500), st.integers(0, 3000))
def test_a_part_runs_at_least_one_and_queues_the_rest(running: int, queued: int, share: int) -> None:
    found = part_of(FleetLimit(running, queued), share)
    assert found.in_flight == share
    assert found.running >= min(share, 1)
    assert found.queued >= 0


def test_a_part_splits_as_the_limit_does() -> None:
    assert part_of(FleetLimit(80, 20), 50) == FleetLimit(40, 10)
