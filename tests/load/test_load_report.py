"""Figures from records written by hand."""

from __future__ import annotations

import pytest

from penstock.engine.arrivals import PlannedRequest
from penstock.engine.load_generator import LoadLimits, LoadResult
from penstock.engine.load_report import LoadObjectives, Trust, summarize
from penstock.engine.stream_client import NO_DESCRIPTORS, RequestRecord


def record(
    at: float, ttft: float | None, tpot: float = 0.01, tokens: int = 11, outcome: str = "ok"
) -> RequestRecord:
    made = RequestRecord(PlannedRequest(at, 100, tokens), sent_at=at, url="http://a", outcome=outcome)
    if ttft is not None:
        made.first_token_at = at + ttft
        made.last_token_at = at + ttft + tpot * (tokens - 1)
        made.output_tokens = tokens
    return made


RECORDS = [
    record(1.0, 0.1, 0.01),
    record(2.0, 0.2, 0.02),
    record(3.0, 0.3, 0.03),
    record(4.0, 0.4, tokens=1),
    record(5.0, None, outcome="http 503"),
]


def report(**objectives: float) -> dict[str, object]:
    result = LoadResult(records=RECORDS, elapsed_seconds=12.0)
    return summarize(result, LoadLimits(duration_seconds=10.0), LoadObjectives(**objectives))


def test_percentiles_are_of_completed_requests():
    ttft = report()["ttft_seconds"]
    assert ttft == pytest.approx(
        {"mean": 0.25, "p50": 0.25, "p90": 0.37, "p95": 0.385, "p99": 0.397, "max": 0.4}
    )
    assert report()["tpot_seconds"]["max"] == pytest.approx(0.03)
    assert report()["latency_seconds"]["max"] == pytest.approx(0.6)


def test_rates_are_per_second_of_the_period():
    seen = report()
    assert seen["period_seconds"] == 10.0
    assert (seen["offered_per_second"], seen["completed_per_second"]) == (0.5, 0.4)
    assert (seen["input_tokens_per_second"], seen["output_tokens_per_second"]) == (40, pytest.approx(3.4))
    assert seen["requests"] == {"due": 5, "completed": 4, "failed": 1}


def test_what_is_answered_in_the_drain_is_no_throughput():
    # ten a second for ten seconds at a server of five: number n is answered at (n + 1) / 5 s
    records = [record(n / 10, (n + 1) / 5 - n / 10, tokens=1) for n in range(100)]
    seen = summarize(LoadResult(records=records, elapsed_seconds=20.0), LoadLimits(10.0), LoadObjectives())
    assert seen["requests"]["completed"] == 100
    assert (seen["offered_per_second"], seen["completed_per_second"]) == (10.0, 5.0)
    assert (seen["input_tokens_per_second"], seen["output_tokens_per_second"]) == (500.0, 5.0)


def test_rates_are_of_what_came_in_the_period_whenever_it_was_due():
    result = LoadResult(
        warmup_records=[
            record(1.0, 0.1, 0.1),
            record(3.0, 1.0, 0.2),
            record(4.0, 0.5, 0.1),
            record(4.5, 1.0, outcome="cut"),
        ],
        records=[record(9.0, 0.5, 0.1)],
        elapsed_seconds=12.0,
    )
    seen = summarize(result, LoadLimits(10.0, warmup_seconds=5.0), LoadObjectives())
    # The second and the third end within, each with five of its eleven tokens; the last begins, with six.
    assert seen["completed_per_second"] == 2 / 5
    assert seen["input_tokens_per_second"] == 100 / 5
    assert seen["output_tokens_per_second"] == pytest.approx((5 + 5 + 6) / 5)
    assert seen["requests"] == {"due": 1, "completed": 1, "failed": 0}


def test_tokens_that_came_in_one_event_are_counted_at_its_time():
    packed = [record(at, 0.5, tpot=0.0) for at in (1.0, 9.8)]
    seen = summarize(LoadResult(records=packed, elapsed_seconds=12.0), LoadLimits(10.0), LoadObjectives())
    assert seen["output_tokens_per_second"] == 1.1


def test_an_answer_without_a_first_token_misses_its_objective():
    result = LoadResult(records=[record(1.0, None), record(2.0, 0.1)], elapsed_seconds=12.0)
    slo = summarize(result, LoadLimits(10.0), LoadObjectives(ttft_seconds=1.0))["slo"]
    assert (slo["ttft_attained_ratio"], slo["attained_ratio"]) == (0.5, 0.5)


def test_a_machine_without_file_descriptors_is_not_believed():
    result = LoadResult(records=[record(1.0, 0.1), record(2.0, None, outcome=NO_DESCRIPTORS)])
    assert Trust(max_send_lag_seconds=0.05, max_engine_lag_ratio=0.1).objection(result) == (
        "1 requests found no free file descriptor: this machine could not send the load; "
        "raise `ulimit -n` or use a lower --max-in-flight"
    )


@pytest.mark.parametrize(
    ("objectives", "ttft", "tpot", "both"),
    [
        ({}, None, None, None),
        ({"ttft_seconds": 0.3}, 3 / 5, None, 3 / 5),
        # an answer of one token has no TPOT to miss; the error misses all
        ({"tpot_seconds": 0.015}, None, 2 / 5, 2 / 5),
        ({"ttft_seconds": 0.3, "tpot_seconds": 0.015}, 3 / 5, 2 / 5, 1 / 5),
    ],
)
def test_attainment_is_of_all_requests_that_were_due(
    objectives: dict[str, float], ttft: float | None, tpot: float | None, both: float | None
):
    slo = report(**objectives)["slo"]
    # sums of binary fractions: 0.3 itself is met by 3.3 - 3.0 = 0.2999...
    assert (slo["ttft_attained_ratio"], slo["tpot_attained_ratio"], slo["attained_ratio"]) == (
        ttft,
        tpot,
        both,
    )


def test_a_late_generator_counts_against_the_latency_of_its_request():
    late = record(1.0, 0.5)
    late.sent_at = 1.4
    assert late.ttft_seconds == pytest.approx(0.5)


def test_of_nothing_every_figure_is_none():
    empty = summarize(LoadResult(), LoadLimits(10.0), LoadObjectives(ttft_seconds=1))
    assert set(empty["ttft_seconds"].values()) == {None}
    assert empty["slo"]["attained_ratio"] is None
    assert empty["engine_lag_ratio"] is None
    assert empty["offered_per_second"] is None
