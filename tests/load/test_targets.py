"""Where requests go."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from penstock.engine.targets import Balancing, Targets


def targets(*urls: str, balancing: Balancing = Balancing.ROUND_ROBIN, file: Path | None = None) -> Targets:
    return Targets(urls, file=file, balancing=balancing, chance=random.Random(1))


def test_round_robin_takes_turns():
    pool = targets("a", "b", "c")
    assert [pool.take() for _ in range(5)] == ["a", "b", "c", "a", "b"]


def test_random_spreads_evenly_and_independently():
    pool = targets("a", "b", balancing=Balancing.RANDOM)
    taken = [pool.take() for _ in range(2000)]
    assert Counter(taken)["a"] == pytest.approx(1000, abs=90)
    repeats = sum(first == second for first, second in itertools.pairwise(taken))
    assert repeats == pytest.approx(1000, abs=90)


def test_least_requests_takes_the_idlest_and_breaks_ties_at_random():
    pool = targets("a", "b", "c", balancing=Balancing.LEAST_REQUESTS)
    assert sorted(pool.take() or "" for _ in range(3)) == ["a", "b", "c"]
    pool.release("b")
    assert pool.take() == "b"
    first = {targets_of_seed(seed).take() for seed in range(20)}
    assert first == {"a", "b", "c"}


def targets_of_seed(seed: int) -> Targets:
    return Targets(("a", "b", "c"), file=None, balancing=Balancing.LEAST_REQUESTS, chance=random.Random(seed))


def test_the_file_is_followed_and_nobody_is_there_when_it_is_empty_or_gone(tmp_path: Path):
    file = tmp_path / "urls"
    pool = targets(file=file)
    pool.refresh()
    assert pool.take() is None
    for number, (text, urls) in enumerate(
        [
            ("http://a:1/\n# a comment\n\nhttp://b:2\n", ("http://a:1", "http://b:2")),
            ("", ()),
            ("http://c:3\n", ("http://c:3",)),
        ]
    ):
        new = tmp_path / f"new-{number}"
        new.write_text(text)
        new.replace(file)
        pool.refresh()
        assert pool.urls == urls
    file.unlink()
    pool.refresh()
    assert pool.urls == ()


def test_a_url_that_left_is_forgotten_when_its_requests_end(tmp_path: Path):
    file = tmp_path / "urls"
    file.write_text("http://a:1\n")
    pool = targets(file=file)
    pool.refresh()
    url = pool.take()
    assert url == "http://a:1"
    file.unlink()
    pool.refresh()
    pool.release(url)
    assert not pool.outstanding
