"""A user's own checks: confined, pod by pod, and a sentence for whatever cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from fakes.defective import defective
from fakes.scripted_source import Samples, ScriptedSource
from penstock.metrics_source import arm_checks
from penstock.metrics_source.arms import Arm, ArmsRead, ArmsWanted, read_arms
from penstock.metrics_source.base import ErrorKind, QueryError, QueryResult
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.canary_counts import CheckCounters
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.reading import Absence
from penstock.model.spec import EngineType, ServiceKey

BAD, TOTAL = 'bad_total{pod=~"$arm_pods"}', 'all_total{pod=~"$arm_pods"}'
TOXIC = CanaryCheck("toxic", CheckType.COUNTERS, bad=BAD, total=TOTAL)
MEMORY = CanaryCheck("memory", CheckType.THRESHOLD, query='max(mem{pod=~"$arm_pods"})', at_most=0.9)
CHAT = ArmsWanted(
    key=ServiceKey("prod", "chat"),
    engine=EngineType.CUSTOM,
    stable_pods=frozenset({"chat-1", "chat.2"}),
    canary_pods=frozenset({"new-1"}),
    metrics=(),
)


def answering(**answers: Samples | QueryError | QueryResult) -> ScriptedSource:
    return ScriptedSource(lambda query: next((each for word, each in answers.items() if word in query), []))


async def read(source: ScriptedSource, *checks: CanaryCheck, wanted: ArmsWanted = CHAT) -> ArmsRead:
    wanted = replace(wanted, checks=checks)
    return (await read_arms(source, [wanted], at=1000.0, settings=SeriesSettings()))[wanted.key]


async def test_counters_are_read_pod_by_pod_for_both_arms() -> None:
    source = answering(
        bad_total=[({"pod": "new-1", "__name__": "bad_total"}, 2.0)],
        all_total=[({"pod": "new-1", "__name__": "all_total"}, 50.0)],
    )
    arms = await read(source, TOXIC)
    assert arms.canary is not None
    assert arms.canary.checks == (CheckCounters("toxic", "new-1", 2.0, 50.0),)
    assert sorted(source.asked) == [
        'all_total{pod=~"(?:chat-1|chat[.]2)",namespace="prod"}',
        'all_total{pod=~"(?:new-1)",namespace="prod"}',
        'bad_total{pod=~"(?:chat-1|chat[.]2)",namespace="prod"}',
        'bad_total{pod=~"(?:new-1)",namespace="prod"}',
    ]


async def test_the_series_of_a_pod_are_added_up_whatever_their_other_labels() -> None:
    source = answering(
        bad_total=[({"pod": "new-1", "code": "500"}, 2.0), ({"pod": "new-1", "code": "503"}, 1.0)],
        all_total=[({"pod": "new-1"}, 50.0)],
    )
    arms = await read(source, TOXIC)
    assert arms.canary is not None
    assert arms.canary.checks == (CheckCounters("toxic", "new-1", 3.0, 50.0),)


async def test_a_sum_over_one_pod_is_that_pods_and_begins_anew_with_another_pod() -> None:
    source = answering(bad_total=[({}, 2.0)], all_total=[({}, 50.0)])
    arms = await read(source, TOXIC)
    assert arms.canary is not None
    assert arms.canary.checks == (CheckCounters("toxic", "new-1", 2.0, 50.0),)


async def test_a_threshold_is_one_number_of_the_canary() -> None:
    source = answering(mem=[({}, 0.7)])
    arms = await read(source, MEMORY)
    assert arms.canary is not None
    assert arms.canary.thresholds == {"memory": 0.7}
    assert arms.stable is None
    assert source.asked == ['max ( mem{pod=~"(?:new-1)",namespace="prod"} )']


async def test_checks_are_bounded_in_time_size_and_series() -> None:
    source = answering()
    await read(source, TOXIC, MEMORY)
    assert all(each.timeout_seconds <= 2.0 and each.answer_bytes == 256 * 1024 for each in source.limits)
    assert sorted({each.series for each in source.limits}) == [2, 513]


def checked(bad: str = BAD, total: str = TOTAL) -> CanaryCheck:
    return replace(TOXIC, bad=bad, total=total)


ONE = [({"pod": "new-1"}, 1.0)]
MANY = [({"pod": f"p-{number}"}, 1.0) for number in range(513)]


@pytest.mark.parametrize(
    ("check", "bad", "total", "message"),
    [
        (
            checked("sum(bad_total)"),
            ONE,
            ONE,
            "the query for bad of toxic cannot be used: it does not tell the arms apart: match the pods, "
            'pod=~"$arm_pods"',
        ),
        (
            checked('rate(bad_total{pod=~"$arm_pods"}[1m])'),
            ONE,
            ONE,
            "the query for bad of toxic cannot be used: rate() is no counter: give the counter as it is, "
            "differences are taken here",
        ),
        (
            checked("bad_total{pod=~$arm_pods}"),
            ONE,
            ONE,
            "the query for bad of toxic cannot be used: '$arm_pods}' at character 16 is not PromQL",
        ),
        (
            TOXIC,
            [],
            ONE,
            "the query for bad of toxic gives no series in namespace prod, the only one it can read: check "
            'names and labels (query: bad_total{pod=~"(?:new-1)",namespace="prod"})',
        ),
        (
            TOXIC,
            [({"pod": "old-1"}, 1.0)],
            ONE,
            "the query for bad of toxic gives nothing for new-1, that for total does: counters that "
            "appear with the first failure need '<bad> or 0 * <total>'",
        ),
        (
            TOXIC,
            [({"pod": "new-1"}, math.nan)],
            ONE,
            "the query for bad of toxic gives NaN: guard divisions, for example with '... / (x > 0)' "
            f"(query: {BAD})",
        ),
        (
            TOXIC,
            [({"pod": "new-1"}, -1.0)],
            ONE,
            f"the query for bad of toxic gives a negative number, which it cannot be (query: {BAD})",
        ),
        (
            TOXIC,
            MANY,
            ONE,
            "the query for bad of toxic cannot be used: it gives more than 512 series: sum by the pod",
        ),
        (
            TOXIC,
            QueryError(ErrorKind.TIMEOUT, "q", "no answer within 2 s"),
            ONE,
            "the query for bad of toxic failed: no answer within 2 s",
        ),
    ],
)
async def test_a_counter_that_cannot_be_used_is_missing_and_says_what_to_write(
    check: CanaryCheck, bad: Samples | QueryError, total: Samples, message: str
) -> None:
    arms = await read(answering(bad_total=bad, all_total=total), check)
    assert arms.canary is None
    assert [each.message for each in arms.lacks if each.arm is Arm.CANARY] == [message]


async def test_an_answer_that_may_be_incomplete_is_no_count_of_failures() -> None:
    part = QueryResult([({"pod": "new-1"}, 2.0)], warnings=("store 7 is down",))
    arms = await read(answering(bad_total=ONE, all_total=part), TOXIC)
    assert arms.canary is None
    assert [(each.arm, each.absence, each.message) for each in arms.lacks if each.arm is Arm.CANARY] == [
        (
            Arm.CANARY,
            Absence.PARTIAL,
            "the answer to the query for total of toxic may be incomplete, the server warns: store 7 is down",
        )
    ]


async def test_a_defect_that_one_check_meets_is_that_checks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_checks, "confined", defective(arm_checks.confined, "bad_total"))
    source = answering(mem=[({}, 0.7)], bad_total=ONE, all_total=ONE)
    with capture_logs() as logs:
        arms = await read(source, TOXIC, MEMORY)
    assert arms.canary is not None
    assert (arms.canary.checks, arms.canary.thresholds) == ((), {"memory": 0.7})
    message = (
        "a defect of Penstock met the check toxic: OverflowError: int too large to convert to float; the log "
        "has more, report it"
    )
    assert [(each.what, each.message) for each in arms.lacks] == [("toxic", message)] * 2
    assert {(each["service"], each["check"], each["log_level"]) for each in logs} == {
        ("prod/chat", "toxic", "error")
    }


async def test_a_check_over_an_absurd_time_is_refused_and_costs_no_other_canary_its_counters() -> None:
    absurd = replace(MEMORY, name="absurd", query=f'max_over_time(mem{{pod=~"$arm_pods"}}[{"9" * 310}s])')
    arms = await read(answering(mem=[({}, 0.7)]), absurd, MEMORY)
    assert arms.canary is not None
    assert arms.canary.thresholds == {"absurd": None, "memory": 0.7}
    assert [each.message for each in arms.lacks] == [
        "the query for absurd cannot be used: a duration has more than 10 digits: 9999999999..."
    ]


async def test_a_sum_over_several_pods_is_refused() -> None:
    source = answering(bad_total=[({}, 1.0)], all_total=[({}, 9.0)])
    arms = await read(source, TOXIC)
    assert arms.stable is None
    assert [each.message for each in arms.lacks] == [
        "the query for bad of toxic adds up 2 pods, so that a restart of one looks like new requests: write "
        f"sum by (pod) (...) (query: {BAD})"
    ]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "the query for memory gives no series in namespace prod, the only one it can read: check names"),
        ([({}, 1.0), ({"a": "b"}, 2.0)], "the query for memory gives several series where one is expected"),
        ([({}, math.inf)], "the query for memory gives +Inf: guard divisions"),
    ],
)
async def test_a_threshold_without_one_number_is_none_and_not_a_pass(samples: Samples, message: str) -> None:
    arms = await read(answering(mem=samples), MEMORY)
    assert arms.canary is None
    (lack,) = arms.lacks
    assert lack.what == "memory"
    assert lack.message.startswith(message)


async def test_an_arm_without_pods_asks_nothing() -> None:
    source = answering()
    arms = await read(source, TOXIC, MEMORY, wanted=replace(CHAT, canary_pods=frozenset()))
    assert len(source.asked) == 2
    assert [each.message for each in arms.lacks if each.arm is Arm.CANARY] == [
        "the canary arm has no pods"
    ] * 2


async def test_names_that_are_no_pods_never_reach_a_query() -> None:
    source = answering(mem=[({}, 0.7)])
    await read(source, MEMORY, wanted=replace(CHAT, canary_pods=frozenset({"new-1", '"} or secret{x="'})))
    assert source.asked == ['max ( mem{pod=~"(?:new-1)",namespace="prod"} )']
