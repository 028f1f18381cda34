from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from fakes.small_kube_api import SmallKubeApi, Store
from penstock.kube import events
from penstock.kube.api import Forbidden, Unavailable
from penstock.kube.events import EventRecorder, EventType, ObjectReference
from penstock.kube.micro_time import micro_time

CHAT = ObjectReference("serving.penstock.dev/v1alpha1", "InferenceService", "prod", "chat", "u-1")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api() -> SmallKubeApi:
    return SmallKubeApi(Store())


@pytest.fixture
def recorder(api: SmallKubeApi, clock: Clock) -> EventRecorder:
    return EventRecorder(
        api,
        instance="penstock-7d9f-x",
        monotonic=clock,
        wall_clock=lambda: datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC),
    )


async def scaled(recorder: EventRecorder, message: str = "from 2 to 5 replicas", **about: str) -> bool:
    chat = ObjectReference(CHAT.api_version, CHAT.kind, "prod", "chat", about.get("uid", "u-1"))
    return await recorder.record(
        chat, EventType.NORMAL, reason="ScaledUp", message=message, action="ScaleTarget"
    )


async def test_an_event_says_what_kubectl_shows(recorder: EventRecorder, api: SmallKubeApi) -> None:
    assert await scaled(recorder)
    (event,) = api.store.written
    assert re.fullmatch(r"chat\.[0-9a-f]{16}", event["metadata"].pop("name"))
    event["metadata"].pop("resourceVersion")
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "prod"},
        "eventTime": "2026-11-21T12:00:00.000000Z",
        "type": "Normal",
        "reason": "ScaledUp",
        "action": "ScaleTarget",
        "note": "from 2 to 5 replicas",
        "reportingController": "penstock",
        "reportingInstance": "penstock-7d9f-x",
        "regarding": {
            "apiVersion": "serving.penstock.dev/v1alpha1",
            "kind": "InferenceService",
            "namespace": "prod",
            "name": "chat",
            "uid": "u-1",
        },
    }


async def test_the_same_event_is_written_once_in_10_minutes(
    recorder: EventRecorder, api: SmallKubeApi, clock: Clock
) -> None:
    assert await scaled(recorder)
    clock.seconds += 599
    assert not await scaled(recorder)
    clock.seconds += 1
    assert await scaled(recorder)
    assert len(api.store.written) == 2


async def test_another_number_or_another_object_is_another_event(recorder: EventRecorder) -> None:
    assert await scaled(recorder)
    assert await scaled(recorder, "from 5 to 6 replicas")
    assert await scaled(recorder, uid="u-2")


async def test_two_tasks_with_the_same_event_write_one(recorder: EventRecorder, api: SmallKubeApi) -> None:
    assert sorted(await asyncio.gather(*(scaled(recorder) for _ in range(5)))) == [False] * 4 + [True]
    assert len(api.store.written) == 1


@pytest.mark.parametrize(
    ("message", "note"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1021 + "…"),
        ("é" * 600, "é" * 510 + "…"),
        ("🚀" * 300, "🚀" * 255 + "…"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
    ],
    ids=["just fits", "cut", "two bytes", "four bytes", "not encodable"],
)
async def test_a_long_note_is_cut_to_1_kb_between_characters(
    recorder: EventRecorder, api: SmallKubeApi, message: str, note: str
) -> None:
    assert await scaled(recorder, message)
    (event,) = api.store.written
    assert event["note"] == note
    assert len(note.encode()) <= 1024


async def test_an_object_without_namespace_has_its_events_in_default(
    recorder: EventRecorder, api: SmallKubeApi
) -> None:
    node = ObjectReference("v1", "Node", "", "n" * 253, "u-9")
    assert await recorder.record(node, "Warning", reason="Full", message="m", action="Schedule")
    (event,) = api.store.written
    assert event["metadata"]["namespace"] == "default"
    assert len(event["metadata"]["name"]) == 253


async def test_a_refused_event_is_logged_once_and_tried_again(
    recorder: EventRecorder, api: SmallKubeApi
) -> None:
    async def forbid(_: str) -> None:
        raise Forbidden('cannot create resource "events"', status=403)

    api.before = forbid
    with capture_logs() as logs:
        for number in range(3):
            assert not await scaled(recorder, f"to {number} replicas")
    assert [(entry["event"], entry["problem"]) for entry in logs] == [
        ("event not written", 'cannot create resource "events"')
    ]
    api.before = None
    assert await scaled(recorder, "to 2 replicas")


async def test_an_api_that_is_down_never_stops_the_loop(recorder: EventRecorder, api: SmallKubeApi) -> None:
    async def down(_: str) -> None:
        raise Unavailable("no answer within 15 s")

    api.before = down
    assert not await scaled(recorder)


async def test_what_is_remembered_is_bounded(
    recorder: EventRecorder, api: SmallKubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "REMEMBERED", 10)
    for number in range(11):
        assert await scaled(recorder, f"to {number} replicas")
    assert await scaled(recorder, "to 0 replicas")
    assert not await scaled(recorder, "to 10 replicas")


@pytest.mark.parametrize(
    ("event_type", "reason", "action"),
    [("Notice", "ScaledUp", "Scale"), ("Normal", "", "Scale"), ("Normal", "ScaledUp", "")],
)
async def test_mistakes_of_the_program_are_raised(
    recorder: EventRecorder, event_type: str, reason: str, action: str
) -> None:
    with pytest.raises(ValueError, match=r"Notice|an Event needs a reason and an action"):
        await recorder.record(CHAT, event_type, reason=reason, message="m", action=action)


def test_a_replica_without_name_cannot_report(api: SmallKubeApi) -> None:
    with pytest.raises(ValueError, match="an Event names the replica that reports it"):
        EventRecorder(api, instance="")


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        micro_time(datetime(2026, 11, 21))  # noqa: DTZ001
