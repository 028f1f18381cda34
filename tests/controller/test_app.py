"""What a process answers to the probes while it waits, takes over and leads; what it watches then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from fakes.lease_replicas import KEY, elector, lease
from fakes.small_kube_api import SmallKubeApi, Store
from penstock.controller.app import Operator
from penstock.controller.namespaces import Namespaces
from penstock.controller.settings import OperatorSettings, PrometheusSettings
from penstock.kube.api import Forbidden, NotFound, Resource, Unavailable
from penstock.kube.lease import LeaseLost
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


class Connected(WithoutKeda):
    async def close(self) -> None:
        pass


class Elected:
    """Leads at once, until its Lease is lost."""

    def __init__(self) -> None:
        self.lost, self.released = asyncio.Event(), False
        self.error: Exception = LeaseLost("another holds the Lease penstock")

    async def acquire(self) -> None:
        pass

    async def keep(self) -> NoReturn:
        await self.lost.wait()
        raise self.error

    async def release(self) -> None:
        self.released = True


class Listed:
    """A relister whose first pass is through."""

    problem = ""

    def __init__(self) -> None:
        self.complete = asyncio.Event()
        self.complete.set()

    async def run(self, _: float) -> None:
        await asyncio.Event().wait()


class Leading:
    """A process that holds the Lease; nothing is watched, and one part counts its ticks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack) -> None:
        settings = OperatorSettings(
            PrometheusSettings("http://127.0.0.1:9"), listen_host="127.0.0.1", listen_port=0
        )
        self.operator = Operator(settings, stack)
        self.elector = Elected()
        self.stop: asyncio.Event | None = None
        self.ticking, self.ticks_ended, self.watches_ended = asyncio.Event(), False, False
        app = "penstock.controller.app"
        monkeypatch.setattr(f"{app}.connect", self._connect)
        monkeypatch.setattr(f"{app}.LeaseElector", lambda *_: self.elector)
        monkeypatch.setattr(f"{app}.stop_on_signals", lambda stop: setattr(self, "stop", stop))
        monkeypatch.setattr(f"{app}.kopf.operator", self._watch)
        monkeypatch.setattr(self.operator, "_build_loop", self._build)

    async def _connect(self, **_: object) -> Connected:
        return Connected()

    async def _build(self, *_: object, **__: object) -> None:
        self.operator._watched, self.operator._relister = [], Listed()  # type: ignore[assignment]
        self.operator._parts = {"ticks": self._tick}

    async def _tick(self) -> None:
        self.ticking.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ticks_ended = True

    async def _watch(self, *, stop_flag: asyncio.Event, **_: object) -> None:
        await stop_flag.wait()
        self.watches_ended = True

    @property
    def leader(self) -> float | None:
        return self.operator._metrics.registry.get_sample_value("penstock_leader")


LOST = "the Lease is lost, exiting: another replica decides now"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LeaseLost("another holds the Lease penstock"), [LOST]),
        (ValueError("a defect"), ["the Lease is not renewed any more", LOST]),
    ],
    ids=["lost", "not renewed"],
)
async def test_a_leader_whose_lease_is_lost_ends_all_its_parts_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: list[str]
) -> None:
    async with AsyncExitStack() as stack:
        leading = Leading(monkeypatch, stack)
        leading.elector.error = error
        running = asyncio.create_task(leading.operator.run())
        async with asyncio.timeout(10.0):
            await leading.ticking.wait()
            assert leading.leader == 1.0
            leading.elector.lost.set()
            with capture_logs() as logs:
                assert await running == 1
        assert leading.leader == 0.0
        assert leading.ticks_ended
        assert leading.watches_ended
        assert [(each["log_level"], each["event"]) for each in logs] == [("error", each) for each in said]
    assert leading.elector.released


async def test_a_leader_that_is_told_to_stop_ends_all_its_parts_and_exits_with_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with AsyncExitStack() as stack:
        leading = Leading(monkeypatch, stack)
        running = asyncio.create_task(leading.operator.run())
        async with asyncio.timeout(10.0):
            await leading.ticking.wait()
            assert leading.stop is not None
            leading.stop.set()
            assert await running == 0
        assert leading.leader == 0.0
        assert leading.ticks_ended
        assert leading.watches_ended
    assert leading.elector.released
