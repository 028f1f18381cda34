"""What `penstock explain` prints, to the letter."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fakes.explained import NOW, ROWS, STATUS, explained
from penstock.cli.explain_canary import verdict
from penstock.cli.explain_json import explained_json
from penstock.cli.explain_output import print_explained
from penstock.cli.explain_read import Lengths, Measured, live_of
from penstock.cli.explain_what_if import Asked, WhatIf, what_if, what_to_ask
from penstock.policy.beliefs import problem_of
from penstock.policy.capacity_problem import engine_model, resolve_engine
from penstock.policy.lengths import LengthMoments, ShapeCell
from penstock.policy.step_factors import StepFactors

LENGTHS = Lengths(LengthMoments(1155.0, 1.0), LengthMoments(211.0, 1.0), "as given")
CLASSIFIER = {"serviceTime": {"mean": "5ms", "scv": "0.1", "concurrency": 1}}


def printed(body: dict[str, Any], whatif: WhatIf | str = "it was not asked for") -> str:
    out = io.StringIO()
    print_explained(live_of(body), whatif, Console(file=out, width=80), NOW)
    return out.getvalue()


EVERYTHING = """\
prod/chat: 5 replicas, 4 of 4 ready (mode Enforce)
  Why: LatencyObjective, for 3m
  5 replicas (1 of them spare): at 57.2 req/s + 2.1 expected within 2m, 3 give
  p95 TTFT 820 ms > 500 ms, 4 give 240 ms <= 500 ms

Load       57.2 req/s at the gateways; utilization 78 %
Objective  ttft.p95: 310ms, 500ms asked; 93 % of the budget left
Objective  tpot.p95: not measured, 40ms asked
Learned    a replica starts in 1m35s, a step takes 1.08 times the profile's
           time, 1,155 tokens in, 211 out
Admission  WithinLimit: at most 392 in flight: 4 times 78 running and 20 queued
           at most 392 in flight, 78 running, 20 queued per replica, 0 % refused
Fallback   NoFallback: spec.fallback is not set

One replica more or less
  cannot be told: it was not asked for

Canary
  Testing 20%, step 2/3, for 3m: revision next against now
  Testing: 20 % of the requests; a verdict takes about 480 more, 45s
  Evidence: errors look worse: 1.4 % of 210 canary requests failed, 0.1 % of
  4,000 stable ones
  Rejected, not tried again: revision before: TTFT: 9 % slower than 500 ms
metric             stable   canary      ratio (95 %) worse no worse verdict
errors         4 of 4,000 3 of 210  14.3 (3.1 to 66)  74 %      0 % undecided
ttft > 500ms 180 of 3,996 9 of 207 0.97 (0.5 to 1.9)   0 %    112 % no worse
tpot                    -        -                 -     -        - missing
  tpot is missing: no fresh series of it on the canary arm

To look at
  MetricsAvailable=False, PartialReporting: 3 of 4 ready pods report: chat-1
  does not
"""


def test_everything_that_status_knows_is_told_within_80_columns() -> None:
    assert printed(explained()) == EVERYTHING


@pytest.fixture(scope="module")
def answer() -> WhatIf:
    found = what_if(live_of(explained()), rate=None, lengths=None, measured=None)
    assert isinstance(found, WhatIf)
    return found


def test_one_replica_more_or_less_is_the_models_answer_at_the_rate_of_status(answer: WhatIf) -> None:
    asked = answer.asked
    assert (asked.rate_per_second, asked.rate_source) == (57.2, "status")
    assert asked.factors == StepFactors.even(1.08)
    assert [each.replicas for each in answer.outcomes] == [4, 5, 6]
    slowest = [each.prediction.utilization for each in answer.outcomes]
    assert slowest == sorted(slowest, reverse=True)
    lines = printed(explained(), answer).splitlines()
    start = lines.index("One replica more or less")
    assert lines[start + 1 : start + 4] == [
        "  at 57.2 req/s (status, without what is expected to come); 1,155 in, 211 out",
        "  tokens (status); engine at 1.08 times the profile's step time",
        "replicas  util.  p95 TTFT  p95 TPOT   shed  verdict",
    ]
    assert lines[start + 5].split()[0] == "5"
    assert lines[start + 5].endswith("holds (decided)")
    assert lines[start + 7] == "  of 5, 1 spare: the objectives are to hold with 4 replicas"


def test_json_has_the_same_and_no_memory_of_the_operator(answer: WhatIf) -> None:
    found = explained_json(live_of(explained()), answer)
    assert found["decision"]["reason"] == "LatencyObjective"
    assert [each["verdict"] for each in found["canary"]["rows"]] == ["undecided", "no worse", "missing"]
    assert "memory" not in found["canary"]
    assert [each["replicas"] for each in found["whatIf"]["outcomes"]] == [4, 5, 6]
    assert set(found["whatIf"]["outcomes"][0]["seconds"]) == {"ttft.p95", "tpot.p95"}
    assert found["whatIfMissing"] is None
    assert found["fallback"] is None


def test_the_rate_that_was_given_comes_before_what_was_measured_and_that_before_status() -> None:
    live = live_of(explained(engine=CLASSIFIER, slo={"latency": {"p99": "500ms"}}))
    measured = Measured(rate_per_second=30.0)
    sources = [
        (asked.rate_per_second, asked.rate_source)
        for given, seen in ((200.0, measured), (None, measured), (None, None))
        if isinstance(asked := what_to_ask(live, rate=given, lengths=None, measured=seen), Asked)
    ]
    assert sources == [(200.0, "as given"), (30.0, "Prometheus, now"), (57.2, "status")]


def test_lengths_that_were_given_come_before_what_was_measured_and_that_before_status() -> None:
    seen = Measured(lengths=Lengths(LengthMoments(60.0, 0.0), LengthMoments(60.0, 0.0), "Prometheus"))
    sources = [
        asked.lengths.source
        for given, measured in ((LENGTHS, seen), (None, seen), (None, Measured()), (None, None))
        if isinstance(
            asked := what_to_ask(live_of(explained()), rate=None, lengths=given, measured=measured), Asked
        )
        and asked.lengths is not None
    ]
    assert sources == ["as given", "Prometheus", "status", "status"]


def without(*path: str) -> dict[str, Any]:
    """Return the resource without one part of its status."""
    body = explained()
    body["status"] = {**STATUS}
    section = body["status"]
    for name in path[:-1]:
        section[name] = {**section[name]}
        section = section[name]
    del section[path[-1]]
    return body


@pytest.mark.parametrize(
    ("body", "measured", "why"),
    [
        (
            without("learned", "outputTokens"),
            None,
            "the lengths of requests have not been learned yet: give --input-tokens and --output-tokens",
        ),
        (
            without("learned"),
            Measured.nothing("Deployment/chat has no pods"),
            "the lengths of requests have not been learned yet; Deployment/chat has no pods: give "
            "--input-tokens and --output-tokens",
        ),
        (without("replicas"), None, "status has no replica count: nothing has been decided yet"),
        (without("load", "arrivalRate"), None, "status has no rate of requests: give --rate"),
        (
            without("load", "arrivalRate"),
            Measured(why_no_rate="connection refused"),
            "status has no rate of requests; connection refused: give --rate",
        ),
        (explained(), Measured(rate_per_second=0.0), "no requests now: give --rate"),
        (
            explained() | {"status": STATUS | {"load": {"arrivalRate": "0", "source": "Engine"}}},
            None,
            "no requests now: give --rate",
        ),
        (
            {**without("learned"), "spec": explained(engine={"profile": {"type": "Learned"}})["spec"]},
            None,
            "the engine's timing is still being learned (engine.profile.type Learned): wait for traffic",
        ),
        (
            explained(engine={"profile": {"type": "Named", "name": "llama-3.1-8b-h1000"}}),
            None,
            "there is no engine profile 'llama-3.1-8b-h1000': correct spec.engine.profile.name",
        ),
    ],
)
def test_what_the_model_lacks_is_said_with_what_to_give(
    body: dict[str, Any], measured: Measured | None, why: str
) -> None:
    assert what_if(live_of(body), rate=None, lengths=None, measured=measured) == why


def test_a_resource_that_nobody_has_looked_at_says_what_to_check() -> None:
    body = explained()
    del body["status"]
    assert printed(body).splitlines()[:3] == [
        "prod/chat: no replica count decided (mode Enforce)",
        "  The operator has not looked at it yet: is penstock run running, and may it see",
        "  this namespace?",
    ]


def test_a_status_of_an_older_spec_says_so() -> None:
    body = explained()
    body["metadata"]["generation"] = 4
    assert "This status is of generation 3; the spec is at 4: not looked at yet." in printed(body)


def test_a_spec_that_cannot_be_read_still_shows_its_status() -> None:
    body = explained(slo={"ttft": {"p95": "0.5s"}})
    text = printed(body, what_if(live_of(body), rate=None, lengths=LENGTHS, measured=None))
    assert "The spec cannot be read: spec.slo.ttft.p95" in text
    assert "Why: LatencyObjective" in text


def test_observe_says_that_the_count_is_not_set() -> None:
    assert printed(explained(mode="Observe")).startswith(
        "prod/chat: 5 replicas would be set, 4 of 4 ready (mode Observe)\n"
    )


def test_a_metric_over_its_threshold_is_worse_whatever_else_it_is() -> None:
    assert verdict({**ROWS[0], "againstPercent": 100, "forPercent": 100}) == "worse"


NO_LENGTHS = "no request of the last 5 minutes has lengths"
REFUSED = "connection refused"


@pytest.mark.parametrize(
    ("measured", "rate", "lengths", "said"),
    [
        (Measured.nothing(REFUSED), None, None, REFUSED),
        (Measured.nothing(REFUSED), 30.0, None, REFUSED),
        (Measured.nothing(REFUSED), 30.0, LENGTHS, ""),
        (Measured(30.0, None, why_no_lengths=NO_LENGTHS), None, None, NO_LENGTHS),
        (Measured(None, LENGTHS, why_no_rate=REFUSED), None, None, REFUSED),
        (Measured(None, None, REFUSED, NO_LENGTHS), None, None, f"{REFUSED}; {NO_LENGTHS}"),
        (Measured(30.0, LENGTHS), None, None, ""),
        (None, None, None, ""),
    ],
)
def test_a_prometheus_that_was_asked_and_is_not_the_source_says_why(
    measured: Measured | None, rate: float | None, lengths: Lengths | None, said: str
) -> None:
    asked = what_to_ask(live_of(explained()), rate=rate, lengths=lengths, measured=measured)
    assert isinstance(asked, Asked)
    assert asked.not_measured == said
    found = explained_json(live_of(explained()), WhatIf(asked, ()))["whatIf"]
    assert found["notMeasured"] == (said or None)
    assert ("not from Prometheus: " in printed(explained(), WhatIf(asked, ()))) == bool(said)


FACTORS = {"overheadRatio": "1.26", "computeRatio": "1.08", "memoryRatio": "1.73"}


def fitted() -> dict[str, Any]:
    """Return the resource of an engine whose three factors are fitted."""
    return explained() | {"status": STATUS | {"learned": STATUS["learned"] | FACTORS}}


def test_the_model_is_the_one_that_decisions_are_made_with_once_factors_are_fitted() -> None:
    live = live_of(fitted())
    answer = what_if(live, rate=None, lengths=None, measured=None)
    assert isinstance(answer, WhatIf)
    assert live.spec is not None
    decided = ShapeCell(LengthMoments(1155.0, 1.0), LengthMoments(211.0, 1.0))
    factors = StepFactors(overhead=1.26, compute=1.08, memory=1.73)
    problem = problem_of(live.spec, resolve_engine(live.spec.engine), decided, factors)
    wanted = engine_model(problem).pool(4, 57.2, balancer=live.spec.balancer)
    assert answer.outcomes[0].prediction.utilization == pytest.approx(wanted.utilization)
    text, said = " ".join(printed(fitted(), answer).split()), "overhead x 1.26, compute x 1.08, memory x 1.73"
    assert f"a step's {said} of the profile's" in text
    assert f"; engine with {said} of the profile's" in text
    assert explained_json(live, answer)["whatIf"]["stepFactors"] == {
        "overhead": 1.26,
        "compute": 1.08,
        "memory": 1.73,
    }


def test_a_table_that_the_operator_does_not_go_by_says_so() -> None:
    ready, *rest = STATUS["conditions"]
    contradicted = {**ready, "type": "ModelTrusted", "status": "False", "reason": "Contradicted"}
    body = explained() | {"status": STATUS | {"conditions": [ready, *rest, contradicted]}}
    asked = what_to_ask(live_of(body), rate=None, lengths=None, measured=None)
    assert isinstance(asked, Asked)
    assert not asked.followed
    said = "The operator does not go by this table: measurements contradict the model"
    assert said in printed(body, WhatIf(asked, ()))
    assert explained_json(live_of(body), WhatIf(asked, ()))["whatIf"]["followed"] is False


def test_an_arm_of_which_a_row_counts_no_requests_is_left_out_of_json() -> None:
    counts = {"canaryRequests": 0, "canaryBad": 2, "stableRequests": 0, "stableBad": 0}
    no_errors = {"metric": "errors", "canaryRequests": 40, "canaryBad": 0}
    canary = STATUS["canary"] | {"rows": [{"metric": "queue-wait", **counts}, no_errors]}
    body = explained() | {"status": STATUS | {"canary": canary}}
    assert explained_json(live_of(body), "not asked for")["canary"]["rows"] == [
        {"metric": "queue-wait", "canaryBad": 2, "verdict": "undecided"},
        {**no_errors, "verdict": "undecided"},
    ]
