"""The label by which gateways find the operator that leads, while API servers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from penstock.controller import gateway_server
from penstock.controller.gateway_server import LEADER_LABEL, keep_leader_label
from penstock.kube.api import PODS, Resource, Unavailable


class OwnPod:
    """The API server with this process's pod; the first `away` calls have no answer."""

    def __init__(self, *, away: int = 0) -> None:
        self.away, self.calls = away, 0
        self.labels: dict[str, str | None] = {}
        self.called = asyncio.Queue[int]()

    async def patch(self, resource: Resource, namespace: str, name: str, body: Any) -> dict[str, Any]:
        assert (resource, namespace, name) == (PODS, "penstock", "penstock-0")
        self.calls += 1
        self.called.put_nowait(self.calls)
        if self.calls <= self.away:
            raise Unavailable("the API server is away")
        self.labels.update(body["metadata"]["labels"])
        return {}


@pytest.fixture(autouse=True)
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "penstock")
    monkeypatch.setenv("POD_NAME", "penstock-0")
    monkeypatch.setattr(gateway_server, "LABEL_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(gateway_server, "LABEL_EVERY_SECONDS", 0.002)


@asynccontextmanager
async def kept(pod: OwnPod, *, leads: str | None) -> AsyncIterator[None]:
    keeping = asyncio.create_task(keep_leader_label(pod, leads=leads))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        yield
    keeping.cancel()
    await asyncio.wait([keeping])


@pytest.mark.parametrize("leads", ["true", None])
async def test_a_label_that_could_not_be_set_or_removed_is_tried_again(leads: str | None) -> None:
    pod = OwnPod(away=3)
    async with kept(pod, leads=leads):
        while await pod.called.get() < 4:
            assert pod.labels == {}
    assert pod.labels == {LEADER_LABEL: leads}


async def test_a_label_that_somebody_takes_off_comes_back() -> None:
    pod = OwnPod()
    async with kept(pod, leads="true"):
        await pod.called.get()
        pod.labels.clear()
        await pod.called.get()
    assert pod.labels == {LEADER_LABEL: "true"}


async def test_outside_a_pod_nothing_is_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAME")
    pod = OwnPod()
    async with kept(pod, leads="true"):
        await asyncio.sleep(0.01)
    assert pod.calls == 0
