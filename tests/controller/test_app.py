"""What a process answers to the probes while it waits, takes over and leads; what it watches then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from fakes.lease_replicas import KEY, elector, lease
from fakes.small_kube_api import SmallKubeApi, Store
from penstock.controller.app import Operator
from penstock.controller.namespaces import Namespaces
from penstock.controller.settings import OperatorSettings, PrometheusSettings
from penstock.kube.api import Forbidden, NotFound, Resource, Unavailable
from penstock.telemetry.health import Liveness

DAYS = 86_400.0


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with AsyncExitStack() as stack:
        yield Operator(OperatorSettings(PrometheusSettings("http://127.0.0.1:9")), stack)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class WithoutKeda:
    async def resource_of(self, *_: str) -> None:
        raise NotFound("no such type", status=404)


class StopHereError(Exception):
    """Ends a start after what is looked at."""


async def test_a_standby_that_takes_over_after_days_has_the_time_of_a_first_tick(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    operator._liveness = Liveness(270.0, clock)

    async def end(*_: Any, **__: Any) -> None:
        raise StopHereError

    monkeypatch.setattr(operator, "_build_loop", end)
    clock.now = 3 * DAYS
    assert operator._liveness.probe().problem == ""
    with suppress(StopHereError):
        await operator._lead(WithoutKeda(), asyncio.Event(), asyncio.Event())  # type: ignore[arg-type]
    clock.now += 270.0
    assert operator._liveness.probe().problem == ""
    clock.now += 1.0
    assert operator._liveness.probe().problem == "no tick has succeeded for 271 s"


async def test_a_process_without_an_elector_is_not_ready_before_it_has_connected(operator: Operator) -> None:
    assert operator._ready().problem == "the API server was not reached yet"


async def test_a_pod_that_never_reached_the_api_server_replaces_no_leader(operator: Operator) -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="another", leaseDurationSeconds=15))
    api = SmallKubeApi(store)

    async def down(_: str) -> None:
        raise Unavailable("connection refused")

    api.before = down
    operator._elector = elector(api, "a")
    assert operator._ready().problem == "the API server was not reached yet"
    waiting = asyncio.create_task(operator._elector.acquire())
    await asyncio.sleep(0.01)
    assert operator._ready().problem == "the API server was not reached yet: connection refused"
    waiting.cancel()
    api.before = None
    waiting = asyncio.create_task(operator._elector.acquire())
    await asyncio.sleep(0.01)
    assert operator._ready().problem == ""
    waiting.cancel()


class OneIsGone:
    async def glance(self, _: Resource, namespace: str) -> None:
        if namespace == "gone":
            raise Forbidden("its Role is gone", status=403)


async def test_a_namespace_that_refuses_at_the_start_is_neither_watched_nor_listed() -> None:
    settings = OperatorSettings(PrometheusSettings("http://127.0.0.1:9"), namespaces=("gone", "prod"))
    async with AsyncExitStack() as stack:
        operator = Operator(settings, stack)
        await operator._build_loop(OneIsGone(), has_keda=True)  # type: ignore[arg-type]
        assert operator._relister is not None
        assert operator._namespaces == Namespaces(("prod",), ("gone",))
        assert operator._relister._namespaces == ("prod",)
        assert operator._ready().problem == "the first listing has not ended"
