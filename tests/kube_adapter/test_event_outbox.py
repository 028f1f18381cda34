"""Events that are written later: all of them, or a count of those that were not."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from fakes.small_kube_api import SmallKubeApi, Store
from penstock.kube.event_outbox import EventOutbox, PendingEvent
from penstock.kube.events import EventRecorder, EventType, ObjectReference


class SlowRecorder(EventRecorder):
    """Takes until `release` is set for each Event."""

    def __init__(self, api: SmallKubeApi) -> None:
        super().__init__(api, instance="test")
        self.release = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def record(self, *args: object, **more: object) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.release.wait()
        self.at_once -= 1
        return await super().record(*args, **more)  # type: ignore[arg-type]


class Counts:
    """What an outbox told."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.dropped: list[str] = []

    def outbox(self, recorder: EventRecorder, **more: int) -> EventOutbox:
        return EventOutbox(recorder, written=self.written.append, dropped=self.dropped.append, **more)


def event(number: int) -> PendingEvent:
    about = ObjectReference(
        "serving.penstock.dev/v1alpha1", "InferenceService", "prod", f"chat-{number}", "u"
    )
    return PendingEvent(about, EventType.NORMAL, "Saturation", f"from 1 to {number}", "ScaleUp")


async def test_nobody_waits_for_an_event_and_each_is_written_once() -> None:
    api, counts = SmallKubeApi(Store()), Counts()
    recorder = SlowRecorder(api)
    outbox = counts.outbox(recorder)
    for number in range(100):
        outbox.put(event(number))
    await asyncio.sleep(0)
    assert counts.written == []
    recorder.release.set()
    await outbox.settled()
    assert len(counts.written) == 100
    assert recorder.most_at_once == 4
    outbox.put(event(100))
    await outbox.settled()
    assert len(counts.written) == 101, "it goes on after it was empty"


async def test_what_does_not_fit_is_counted_and_said_once() -> None:
    counts = Counts()
    recorder = SlowRecorder(SmallKubeApi(Store()))
    outbox = counts.outbox(recorder, most_waiting=10)
    with capture_logs() as logs:
        for number in range(30):
            outbox.put(event(number))
    assert counts.dropped == ["Saturation"] * 20
    assert [(each["event"], each["waiting"]) for each in logs] == [("events are dropped", 10)]
    recorder.release.set()
    await outbox.settled()
    assert len(counts.written) == 10


async def test_at_the_end_what_waits_is_written_but_not_for_ever() -> None:
    counts = Counts()
    recorder = SlowRecorder(SmallKubeApi(Store()))
    outbox = counts.outbox(recorder)
    for number in range(6):
        outbox.put(event(number))
    with capture_logs() as logs:
        await outbox.close()
    assert counts.written == []
    assert len(counts.dropped) == 6
    assert (logs[-1]["event"], logs[-1]["events"]) == ("events are given up at the end", 6)
