"""The judge's error rates on simulated canaries: a small, seeded part of `make bench-canary`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.canary_judged import judged
from bench.canary_load_law import law
from bench.canary_load_run import LOAD_CELLS, SMALL, Rule, endings
from bench.canary_ours import evidence
from bench.canary_peers import NEVER, kayenta, per_minute, threshold_judge
from bench.canary_streams import LAWS, Arm, simulate
from penstock.model.canary_verdict import VerdictKind
from penstock.queueing.balancer import Balancer

RUNS, SEED = 100, 20_261
LN_10 = np.log(10)


def rolled_back_and_promoted(name: str, rate: float) -> tuple[float, float]:
    law = next(law for law in LAWS if law.name == name)
    traces = evidence(simulate(replace(law, rate=rate), RUNS, SEED))
    rollback, promotion = (
        np.where(reached.any(axis=0), reached.argmax(axis=0), NEVER)
        for reached in (traces.roll_back, traces.promote)
    )
    return float(((rollback <= promotion) & (rollback < NEVER)).mean()), float((promotion < rollback).mean())


# Bounds: 99.9 % of a binomial of 100 with the rates that the benchmark measures.
@pytest.mark.parametrize(
    ("name", "rate", "most_rollbacks", "least_promotions"),
    [("null waves", 5.0, 0.05, 0.95), ("null noise 6 %", 5.0, 0.11, 0.75)],
)
def test_good_canaries_are_kept_and_promoted(
    name: str, rate: float, most_rollbacks: float, least_promotions: float
) -> None:
    rolled_back, promoted = rolled_back_and_promoted(name, rate)
    assert rolled_back <= most_rollbacks
    assert promoted >= least_promotions


@pytest.mark.parametrize(("name", "rate"), [("p95 +20 %", 5.0), ("p95 +50 %", 1.0), ("errors .1->1 %", 5.0)])
def test_bad_canaries_are_rolled_back_and_not_promoted(name: str, rate: float) -> None:
    rolled_back, promoted = rolled_back_and_promoted(name, rate)
    assert rolled_back >= 0.95
    assert promoted <= 0.03


@pytest.mark.parametrize("name", ["null waves", "errors .1->1 %", "late p95 +50 %"])
def test_the_benchmark_and_the_judge_say_the_same_after_every_scrape(name: str) -> None:
    law = next(law for law in LAWS if law.name == name)
    stream = simulate(replace(law, rate=5.0), 2, SEED)
    traces = evidence(stream)
    for at, (verdict, _) in enumerate(judged(stream, 1)):
        rows = {row.metric: row for row in verdict.evidence}
        for metric, against, in_favour in (
            ("ttft", traces.latency_against, traces.latency_for),
            ("errors", traces.errors_against, traces.errors_for),
        ):
            assert rows[metric].log10_against * LN_10 == pytest.approx(against[at, 1], abs=1e-9)
            assert rows[metric].log10_for * LN_10 == pytest.approx(in_favour[at, 1], abs=1e-9)
        assert (verdict.kind is VerdictKind.ROLLBACK) == traces.roll_back[at, 1]
        if verdict.kind is not VerdictKind.ROLLBACK:
            assert (verdict.kind is VerdictKind.PROMOTE) == traces.promote[at, 1]


def test_at_a_fifth_of_a_request_per_second_the_judge_says_so_and_what_it_takes() -> None:
    law = next(law for law in LAWS if law.name == "null waves")
    verdicts = [verdict for verdict, _ in judged(simulate(replace(law, rate=0.2), 1, SEED), 0)][8:]
    assert {verdict.kind for verdict in verdicts} == {VerdictKind.INSUFFICIENT}
    assert all(verdict.requests_needed and verdict.seconds_needed for verdict in verdicts)


def test_the_peers_p95_is_prometheus_histogram_quantile() -> None:
    from bench.canary_streams import EDGES
    from penstock.metrics_source.histogram import histogram_quantile

    stream = simulate(replace(LAWS[1], rate=5.0), 1, SEED)
    p95, _ = per_minute(stream.canary)
    below = (stream.canary.requests[:4, 0, None] - stream.canary.slow[:4, 0]).sum(axis=0)
    cumulative = dict(zip(map(float, EDGES), map(float, below), strict=True))
    cumulative[np.inf] = float(stream.canary.requests[:4, 0].sum())
    assert p95[0, 0] == pytest.approx(histogram_quantile(0.95, cumulative))


def test_peers_on_a_canary_that_fails_half_of_its_requests() -> None:
    stream = simulate(replace(LAWS[0], rate=5.0), 3, SEED)
    failing = Arm(stream.canary.requests, np.round(stream.canary.requests / 2), stream.canary.slow)
    bad = replace(stream, canary=failing)
    assert threshold_judge(bad, 1).tolist() == [3, 3, 3]  # the first minute's last scrape
    assert threshold_judge(bad, 5).tolist() == [19, 19, 19]
    assert kayenta(bad).tolist() == [39, 39, 39]  # its first look, after ten minutes
    assert kayenta(stream).tolist() == [NEVER] * 3


@pytest.mark.slow
def test_latency_of_a_loaded_pool_rises_with_load_and_slowness_and_falls_with_replicas() -> None:
    above = [law(SMALL, count, Balancer.LEAST_REQUESTS) for count in (1, 4)]
    loads, same = np.array([0.1, 0.33, 0.7, 0.85]), np.ones(4)
    one, four = (each.above(loads, same) for each in above)
    assert np.all(np.diff(one[:, 2:5], axis=0) >= 0)
    assert np.all(above[0].above(loads, 1.2 * same)[:, 2:5] > one[:, 2:5])
    assert np.all(four[2:, 2:5] < one[2:, 2:5])


@pytest.mark.slow
def test_a_slower_canary_that_little_load_flatters_is_not_promoted_and_a_good_one_is() -> None:
    (good, slow), runs = LOAD_CELLS[:2], 40
    back, promoted = endings(slow, Rule.BY_LOAD, runs, SEED)
    assert ((promoted < NEVER).sum(), (back < NEVER).sum()) == (0, runs)
    back, promoted = endings(good, Rule.BY_LOAD, runs, SEED)
    assert (back < NEVER).sum() <= 1
    assert (promoted < NEVER).sum() >= runs - 3
