"""What an election survives and what ends it, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import random
import re
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from fakes.fake_time import on_fake_time
from fakes.lease_replicas import KEY, elector, lead, lease, now, spec, stopped
from fakes.small_kube_api import SmallKubeApi, Store
from penstock.kube.api import Forbidden, Unavailable
from penstock.kube.lease import LeaseElector, LeaseLost


@on_fake_time
async def test_an_api_that_is_down_longer_than_the_deadline_loses_the_lease() -> None:
    async def down(_: str) -> None:
        raise Unavailable("etcd is not there")

    api = SmallKubeApi(Store())
    leader = elector(api, "a")
    await leader.acquire()
    api.before = down
    with pytest.raises(LeaseLost, match=r"^the Lease penstock was not renewed for 10 s: etcd is not there$"):
        await leader.keep()
    assert now() == pytest.approx(10)
    assert leader.role == "standby"
    assert leader.last_contact_seconds() == pytest.approx(10)


@on_fake_time
async def test_a_standby_says_that_it_has_no_answer_about_the_lease_before_the_first_and_after_a_minute() -> (
    None
):
    down_until, down_from = 30.0, 600.0

    async def down_at_times(_: str) -> None:
        if not down_until < now() < down_from:
            raise Unavailable("no route to host")

    store = Store()
    store.put(KEY, lease(holderIdentity="b", leaseDurationSeconds=3600))
    standby = elector(SmallKubeApi(store, before=down_at_times), "a")
    assert standby.unreachable() == "the API server was not reached yet"
    task = asyncio.create_task(standby.acquire())
    await asyncio.sleep(29)
    assert standby.unreachable() == "the API server was not reached yet: no route to host"
    await asyncio.sleep(571)
    assert standby.unreachable() == ""
    await asyncio.sleep(55)
    assert standby.unreachable() == "", "an API server is updated in less"
    await asyncio.sleep(10)
    assert re.fullmatch(
        r"the API server has not answered about the Lease for 6\d s: no route to host", standby.unreachable()
    )
    await stopped(task)


@on_fake_time
async def test_that_there_is_no_lease_is_an_answer_also_where_none_may_be_created() -> None:
    async def refuse(verb: str) -> None:
        if verb == "create":
            raise Forbidden("cannot create leases", status=403)

    first = elector(SmallKubeApi(Store(), before=refuse), "a")
    with capture_logs() as logs:
        task = asyncio.create_task(first.acquire())
        await asyncio.sleep(30)
    assert first.unreachable() == ""
    assert [each["problem"] for each in logs] == ["cannot create leases"], "said once"
    await stopped(task)


@on_fake_time
async def test_an_api_that_is_down_for_less_than_the_deadline_is_survived() -> None:
    async def down_for_a_while(_: str) -> None:
        if 20 < now() < 27:
            raise Unavailable("rolling update of the API server")

    leader = elector(SmallKubeApi(Store(), before=down_for_a_while), "a")
    task = asyncio.create_task(lead(leader))
    await asyncio.sleep(26.5)
    assert leader.last_contact_seconds() > 5
    await asyncio.sleep(33.5)
    assert leader.role == "leader"
    assert leader.last_contact_seconds() <= 2.2
    await stopped(task)


@on_fake_time
async def test_a_hanging_call_is_cut_off_in_time_for_another() -> None:
    hung: list[float] = []

    async def hang_once(_: str) -> None:
        if now() > 20 and not hung:
            hung.append(now())
            await asyncio.sleep(3600)

    leader = elector(SmallKubeApi(Store(), before=hang_once), "a")
    task = asyncio.create_task(lead(leader))
    await asyncio.sleep(40)
    assert hung
    assert leader.role == "leader"
    await stopped(task)


@on_fake_time
async def test_a_permission_that_was_taken_away_is_named_in_the_loss() -> None:
    async def forbid(verb: str) -> None:
        if verb == "replace":
            raise Forbidden('cannot update resource "leases"', status=403)

    api = SmallKubeApi(Store())
    leader = elector(api, "a")
    await leader.acquire()
    api.before = forbid
    with pytest.raises(LeaseLost, match=r'not renewed for 10 s: cannot update resource "leases"$'):
        await leader.keep()


@on_fake_time
async def test_a_leader_that_was_held_up_is_no_leader_before_it_notices() -> None:
    held_up = 0.0

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds + held_up)

    store = Store()
    first = elector(SmallKubeApi(store), "a", sleep=sleep)
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    second = elector(SmallKubeApi(store), "b")
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(10)
    held_up = 30.0
    while not taking.done():
        assert not (first.role == "leader" and second.role == "leader")
        await asyncio.sleep(0.1)
    assert first.role == "standby"
    assert not keeping.done()
    with pytest.raises(LeaseLost, match="not renewed for 10 s: this process was held up"):
        await keeping
    assert spec(store)["holderIdentity"] == "b"


@on_fake_time
async def test_a_leader_that_is_not_in_the_record_any_more_stops_at_once() -> None:
    store = Store()
    leader = elector(SmallKubeApi(store), "a")
    await leader.acquire()
    store.put(KEY, lease(holderIdentity="intruder", leaseDurationSeconds=15, renewTime="x"))
    with pytest.raises(LeaseLost, match=r"^intruder holds the Lease penstock$"):
        await leader.keep()
    assert now() <= 2.2


@on_fake_time
async def test_a_conflict_while_renewing_is_looked_at_again_and_survived() -> None:
    store = Store()

    async def touch(verb: str) -> None:
        if verb == "replace" and 10 < now() < 15:
            store.put(KEY, {**store.objects[KEY], "metadata": {"name": "penstock", "labels": {"n": "1"}}})

    leader = elector(SmallKubeApi(store, before=touch), "a")
    task = asyncio.create_task(lead(leader))
    await asyncio.sleep(30)
    assert leader.role == "leader"
    assert store.objects[KEY]["metadata"]["labels"] == {"n": "1"}
    await stopped(task)


@on_fake_time
async def test_a_write_that_was_cut_off_is_released_all_the_same() -> None:
    async def hang(verb: str) -> None:
        if verb == "create":
            await asyncio.sleep(3600)

    store = Store()
    candidate = elector(SmallKubeApi(store, after=hang), "a")
    taking = asyncio.create_task(candidate.acquire())
    await asyncio.sleep(1)
    await stopped(taking)
    assert spec(store)["holderIdentity"] == "a"
    await candidate.release()
    assert spec(store)["holderIdentity"] == ""


@on_fake_time
async def test_release_raises_nothing_and_ends_in_time() -> None:
    async def hang(_: str) -> None:
        await asyncio.sleep(3600)

    api = SmallKubeApi(Store())
    leader = elector(api, "a")
    await leader.acquire()
    api.before = hang
    await leader.release()
    assert now() == pytest.approx(5)
    assert leader.role == "standby"


@pytest.mark.parametrize("seed", range(10))
@on_fake_time
async def test_two_never_lead_whatever_fails(seed: int) -> None:
    """Faults before or after processing, hangs, pauses and restarts of three replicas for 10 min.

    Looked at whenever one begins to lead, which is when an overlap would begin, and every second.
    """
    rng = random.Random(seed)
    store = Store()
    leaders: list[list[str]] = []
    lives: list[LeaseElector | None] = [None, None, None]

    def look() -> None:
        leaders.append([each.identity for each in lives if each is not None and each.role == "leader"])

    async def trouble(_: str) -> None:
        kind = rng.random()
        await asyncio.sleep(rng.uniform(0, 0.5))
        if kind < 0.15:
            raise Unavailable("reset")
        if kind < 0.20:
            await asyncio.sleep(rng.uniform(1, 20))

    async def sleep(seconds: float) -> None:
        pause = rng.uniform(5, 40) if rng.random() < 0.03 else 0.0
        await asyncio.sleep(seconds + pause)

    async def live(index: int) -> None:
        for life in range(1000):
            api = SmallKubeApi(store, before=trouble, after=trouble)
            lives[index] = candidate = elector(api, f"{index}-{life}", sleep=sleep)
            try:
                async with asyncio.timeout(rng.uniform(20, 120)):
                    await candidate.acquire()
                    look()
                    await candidate.keep()
            except (LeaseLost, TimeoutError):
                if rng.random() < 0.5:
                    await candidate.release()

    tasks = [asyncio.create_task(live(index)) for index in range(3)]
    while now() < 600:
        look()
        await asyncio.sleep(1)
    for task in tasks:
        await stopped(task)
    assert max(map(len, leaders)) == 1
    assert sum(map(len, leaders)) > 0.3 * len(leaders), "the faults left hardly a leader: nothing was tested"
    assert sum(a != b for a, b in pairwise(leaders)) > 5
