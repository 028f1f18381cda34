"""Both arms' raw counters from canned answers: what is there, what is missing, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from fakes.scripted_source import Samples, ScriptedSource
from penstock.metrics_source.arm_gateway import GATEWAY_POD
from penstock.metrics_source.arm_queries import CHUNK_CHARACTERS, chunks_of
from penstock.metrics_source.arms import Arm, ArmsRead, ArmsWanted, ErrorSource, Lack, read_arms
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.metrics_source.identity import SeriesSettings
from penstock.model.canary_counts import Histogram, Metric, PodCounters
from penstock.model.reading import Absence
from penstock.model.spec import EngineType, ServiceKey
from penstock.model.traffic import ArmCount, GatewayReading

AT = 1000.0
CHAT = ArmsWanted(
    key=ServiceKey("prod", "chat"),
    engine=EngineType.VLLM,
    stable_pods=frozenset({"chat-1", "chat-2"}),
    canary_pods=frozenset({"new-1"}),
    metrics=(Metric.ERRORS, Metric.TTFT),
)


def at(pod: str, value: float, *, namespace: str = "prod", **labels: str) -> tuple[dict[str, str], float]:
    return {"namespace": namespace, "pod": pod, **labels}, value


def ended(pod: str, stop: float, error: float | None) -> list[tuple[dict[str, str], float]]:
    found = [at(pod, stop, finished_reason="stop")]
    return found if error is None else [*found, at(pod, error, finished_reason="error")]


def buckets(pod: str, *counts: float) -> list[tuple[dict[str, str], float]]:
    return [at(pod, count, le=edge) for edge, count in zip(("0.5", "1.0", "+Inf"), counts, strict=True)]


def answering(**answers: Samples | QueryError) -> ScriptedSource:
    """Answer by a word in the query; nothing to all others."""
    return ScriptedSource(lambda query: next((each for word, each in answers.items() if word in query), []))


async def read(
    source: ScriptedSource, wanted: ArmsWanted = CHAT, settings: SeriesSettings | None = None
) -> ArmsRead:
    found = await read_arms(source, [wanted], at=AT, settings=settings or SeriesSettings())
    return found[wanted.key]


async def test_each_pod_keeps_its_own_counters() -> None:
    source = answering(
        request_success=[*ended("chat-1", 90, 1), *ended("chat-2", 60, 0), *ended("new-1", 9, 2)],
        time_to_first=[*buckets("chat-1", 50, 80, 91), *buckets("new-1", 1, 5, 11)],
    )
    arms = await read(source)
    assert arms.stable is not None
    assert arms.canary is not None
    assert arms.stable.pods == (
        PodCounters("chat-1", 91, 1, ttft=Histogram((0.5, 1.0, math.inf), (50, 80, 91))),
        PodCounters("chat-2", 60, 0),
    )
    assert arms.canary.pods == (
        PodCounters("new-1", 11, 2, ttft=Histogram((0.5, 1.0, math.inf), (1, 5, 11))),
    )
    assert (arms.stable.at, arms.canary.at, arms.lacks) == (AT, AT, ())


async def test_a_reading_says_how_old_its_samples_may_be() -> None:
    source = answering(request_success=ended("chat-1", 90, 1))
    arms = await read(source, settings=SeriesSettings(scrape_interval_seconds=30.0))
    assert arms.stable is not None
    assert arms.stable.fresh_seconds == 120.0


async def test_one_query_per_signal_however_many_canaries() -> None:
    source = answering()
    services = [replace(CHAT, key=ServiceKey(f"team-{number}", "chat")) for number in range(5)]
    await read_arms(source, services, at=AT, settings=SeriesSettings(matchers={"job": "vllm"}))
    where = '{job="vllm",namespace=~"team-0|team-1|team-2|team-3|team-4",pod=~"chat-1|chat-2|new-1"}'
    assert source.asked == [
        f"sum by (namespace, pod, {label}) ({metric}{where} unless "
        f"(time() - timestamp({metric}{where}) > 60))"
        for metric, label in (
            ("vllm:request_success_total", "finished_reason"),
            ("vllm:time_to_first_token_seconds_bucket", "le"),
        )
    ]


async def test_nothing_is_asked_without_a_canary() -> None:
    source = answering()
    assert await read_arms(source, [], at=AT, settings=SeriesSettings()) == {}
    assert source.asked == []


def test_many_pods_are_asked_for_in_chunks_of_bounded_length() -> None:
    many = [
        replace(
            CHAT,
            key=ServiceKey("prod", f"chat-{number}"),
            stable_pods=frozenset(f"chat-{number}-{'x' * 30}-{pod}" for pod in range(20)),
            canary_pods=frozenset({f"new-{number}"}),
        )
        for number in range(20)
    ]
    chunks = chunks_of(many)
    asked = [pod for chunk in chunks for pod in chunk.pods]
    assert sorted(asked) == sorted(pod for each in many for pod in each.stable_pods | each.canary_pods)
    assert all(len("|".join((*chunk.pods, *chunk.namespaces))) <= CHUNK_CHARACTERS for chunk in chunks)
    assert len(chunks) == 5


async def test_a_namesake_in_another_namespace_is_not_counted() -> None:
    other = [at("new-1", 7.0, namespace="dev", finished_reason="stop")]
    arms = await read(answering(request_success=[*other, *ended("new-1", 9, 0)]))
    assert arms.canary is not None
    assert arms.canary.pods == (PodCounters("new-1", 9, 0),)


async def test_an_arm_that_nobody_scrapes_is_none_and_says_why() -> None:
    arms = await read(
        answering(request_success=ended("chat-1", 9, 0), time_to_first=buckets("chat-1", 1, 2, 3))
    )
    assert arms.stable is not None
    assert arms.canary is None
    assert arms.lacks == tuple(
        Lack(
            Arm.CANARY,
            what,
            Absence.NO_SERIES,
            f'no fresh series of {series} of the canary arm, namespace="prod", pod="new-1": check that '
            "Prometheus scrapes them",
        )
        for what, series in (
            ("errors", "vllm:request_success_total"),
            ("ttft", "vllm:time_to_first_token_seconds"),
        )
    )


async def test_a_failed_query_takes_its_signal_only() -> None:
    failure = QueryError(ErrorKind.TIMEOUT, "q", "no answer within 5 s")
    arms = await read(answering(request_success=ended("new-1", 9, 0), time_to_first=failure))
    assert arms.canary is not None
    assert arms.canary.pods == (PodCounters("new-1", 9, 0),)
    assert (
        Lack(
            Arm.CANARY,
            "ttft",
            Absence.QUERY_FAILED,
            "the query for ttft of both arms failed: no answer within 5 s",
        )
        in arms.lacks
    )


async def test_an_arm_without_pods_says_so() -> None:
    arms = await read(answering(), replace(CHAT, canary_pods=frozenset()))
    assert [each.message for each in arms.lacks if each.arm is Arm.CANARY] == [
        "the canary arm has no pods"
    ] * 2


async def test_a_vllm_that_does_not_count_errors_is_not_one_without_errors() -> None:
    arms = await read(
        answering(request_success=ended("new-1", 9, None), time_to_first=buckets("new-1", 1, 2, 3))
    )
    assert arms.canary is not None
    assert arms.canary.pods[0].requests == 9
    assert arms.canary.pods[0].errors is None
    (lack,) = [each for each in arms.lacks if each.arm is Arm.CANARY]
    assert (lack.what, lack.absence) == ("errors", Absence.NOT_EXPOSED)
    assert lack.message == (
        'this vLLM does not count failed requests (finished_reason="error"): use a newer one, or '
        "routing.type Envoy"
    )


@pytest.mark.parametrize(
    ("engine", "label", "reasons", "requests", "errors"),
    [
        (EngineType.SGLANG, "status_code", {"200": 40.0, "400": 2.0, "503": 3.0}, 45, 3),
        (EngineType.SGLANG, "status_code", {"200": 40.0}, 40, 0),
        (EngineType.TGI, "err", {"": 50.0, "generation": 2.0, "validation": 9.0}, 52, 2),
        (EngineType.TGI, "err", {"": 50.0}, 50, 0),
        (EngineType.TGI, "err", {"overloaded": 4.0}, 4, 4),
        (EngineType.VLLM, "finished_reason", {"stop": 5.0, "abort": 1.0, "error": 2.0}, 8, 2),
    ],
)
async def test_what_counts_as_a_failed_request_depends_on_the_engine(
    engine: EngineType, label: str, reasons: dict[str, float], requests: float, errors: float
) -> None:
    samples = [at("new-1", value, **({label: reason} if reason else {})) for reason, value in reasons.items()]
    source = ScriptedSource(lambda query: samples if label in query else [])
    arms = await read(source, replace(CHAT, engine=engine, metrics=(Metric.ERRORS,)))
    assert arms.canary is not None
    assert arms.canary.pods == (PodCounters("new-1", requests, errors),)


@pytest.mark.parametrize("engine", [EngineType.LLAMA_CPP, EngineType.CUSTOM])
async def test_an_engine_without_such_counters_is_not_asked(engine: EngineType) -> None:
    source = answering()
    arms = await read(source, replace(CHAT, engine=engine))
    assert source.asked == []
    assert {each.absence for each in arms.lacks} == {Absence.NOT_EXPOSED}
    assert arms.canary is None


BROKEN: list[Callable[[], Samples]] = [
    lambda: [at("new-1", math.nan, le="0.5"), at("new-1", 3.0, le="+Inf")],
    lambda: [at("new-1", 3.0, le="0.5")],
    lambda: [at("new-1", 3.0, le="half"), at("new-1", 3.0, le="+Inf")],
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_histogram_that_makes_no_sense_is_missing(broken: Callable[[], Samples]) -> None:
    arms = await read(answering(request_success=ended("new-1", 9, 0), time_to_first=broken()))
    assert arms.canary is not None
    assert arms.canary.pods == (PodCounters("new-1", 9, 0),)


async def test_a_reason_that_is_no_number_takes_the_pods_counters() -> None:
    arms = await read(answering(request_success=ended("new-1", 9, math.nan)))
    assert arms.canary is None


ROUTED = replace(
    CHAT,
    errors_from=ErrorSource.GATEWAY,
    gateway=GatewayReading(
        at=AT - 1, proxies=2, stable_arm=ArmCount(400, 1), canary_arm=ArmCount(20, 3, in_flight=2)
    ),
)


async def test_where_gateways_serve_they_count_errors_and_the_engine_is_not_asked() -> None:
    source = answering(request_success=ended("new-1", 9, 0), time_to_first=buckets("new-1", 1, 2, 3))
    arms = await read(source, ROUTED)
    assert len(source.asked) == 1
    assert arms.errors_from is ErrorSource.GATEWAY
    assert arms.canary is not None
    assert arms.stable is not None
    assert arms.canary.pods == (
        PodCounters("new-1", ttft=Histogram((0.5, 1.0, math.inf), (1, 2, 3))),
        PodCounters(GATEWAY_POD, requests=20, errors=3),
    )
    assert arms.stable.pods == (PodCounters(GATEWAY_POD, requests=400, errors=1),)


@pytest.mark.parametrize(
    ("gateway", "absence"),
    [
        (None, Absence.NO_SERIES),
        (GatewayReading(at=AT, proxies=0), Absence.NO_SERIES),
        (GatewayReading(at=AT - 60, proxies=2, canary_arm=ArmCount(20, 3)), Absence.STALE),
        (GatewayReading(at=AT, proxies=2), Absence.NOT_EXPOSED),
    ],
)
async def test_silent_gateways_are_not_replaced_by_the_engine(
    gateway: GatewayReading | None, absence: Absence
) -> None:
    source = answering(request_success=ended("new-1", 9, 0), time_to_first=buckets("new-1", 1, 2, 3))
    arms = await read(source, replace(ROUTED, gateway=gateway))
    assert arms.canary is not None
    assert [pod.requests for pod in arms.canary.pods] == [None]
    assert [each.absence for each in arms.lacks if (each.arm, each.what) == (Arm.CANARY, "errors")] == [
        absence
    ]
