"""Who leads when, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from fakes.fake_time import on_fake_time
from fakes.lease_replicas import KEY, elector, lead, lease, now, spec, stopped
from fakes.small_kube_api import SmallKubeApi, Store
from penstock.kube.api import Object
from penstock.kube.lease import LeaseElector, LeaseLost, LeaseTiming

# Seconds from a leader's death: the last renewal was at most 2.2 s before; a standby saw it at most 4.4 s
# after it was written and looks again at most 4.4 s after the 15 s are over.
TAKEOVER = (15 - 2.2, 15 + 2 * 4.4)
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@on_fake_time
async def test_the_first_one_creates_the_lease_and_leads() -> None:
    store = Store()
    first = elector(SmallKubeApi(store), "a")
    assert first.role == "standby"
    await first.acquire()
    assert first.role == "leader"
    assert spec(store) == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-11-21T12:00:00.000000Z",
        "renewTime": "2026-11-21T12:00:00.000000Z",
        "leaseTransitions": 0,
    }


@on_fake_time
async def test_a_leader_renews_about_every_2_s_and_keeps_its_acquire_time() -> None:
    store = Store()
    task = asyncio.create_task(lead(elector(SmallKubeApi(store), "a")))
    await asyncio.sleep(60)
    await stopped(task)
    times = [written["spec"]["renewTime"] for written in store.written]
    assert 28 <= len(times) <= 34
    assert times == sorted(set(times))
    assert all(MICRO_TIME.fullmatch(each) for each in times)
    assert {written["spec"]["acquireTime"] for written in store.written} == {times[0]}


@on_fake_time
async def test_a_standby_waits_15_s_of_its_own_after_the_last_change() -> None:
    store = Store()
    task = asyncio.create_task(lead(elector(SmallKubeApi(store), "a")))
    await asyncio.sleep(30)
    standby = elector(SmallKubeApi(store), "b")
    taking = asyncio.create_task(standby.acquire())
    await asyncio.sleep(30)
    assert standby.role == "standby"
    assert standby.holder == "a"
    await stopped(task)
    died = now()
    await taking
    assert TAKEOVER[0] <= now() - died <= TAKEOVER[1]
    assert spec(store)["holderIdentity"] == "b"
    assert spec(store)["leaseTransitions"] == 1


@on_fake_time
async def test_release_hands_over_at_the_next_look() -> None:
    store = Store()
    first = elector(SmallKubeApi(store), "a")
    await first.acquire()
    second = elector(SmallKubeApi(store), "b")
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(5)
    await first.release()
    assert first.role == "standby"
    assert spec(store)["holderIdentity"] == ""
    released = now()
    await taking
    assert now() - released <= 2 * 2.2
    assert spec(store)["leaseTransitions"] == 1


@pytest.mark.parametrize("hours", [-72, -5, 5, 72])
@on_fake_time
async def test_wall_clocks_hours_apart_change_nothing(hours: int) -> None:
    store = Store()
    first = asyncio.create_task(lead(elector(SmallKubeApi(store), "a")))
    await asyncio.sleep(0.1)
    standby = elector(SmallKubeApi(store), "b", clock_ahead=timedelta(hours=hours))
    taking = asyncio.create_task(standby.acquire())
    await asyncio.sleep(120)
    assert not taking.done()
    await stopped(first)
    died = now()
    await taking
    assert TAKEOVER[0] <= now() - died <= TAKEOVER[1]


@pytest.mark.parametrize(
    "written",
    [
        lease(holderIdentity="go", leaseDurationSeconds=15, renewTime="2026-11-21T12:00:00Z"),
        lease(holderIdentity="go", leaseDurationSeconds=15, renewTime="not a time at all"),
        lease(holderIdentity="go"),
    ],
    ids=["no microseconds", "no time", "holder only"],
)
@on_fake_time
async def test_the_record_of_another_client_is_waited_for_and_then_taken(written: Object) -> None:
    store = Store()
    store.put(KEY, written)
    candidate = elector(SmallKubeApi(store), "a")
    await candidate.acquire()
    assert 15 <= now() <= 20
    assert spec(store)["holderIdentity"] == "a"
    assert store.objects[KEY]["metadata"]["labels"] == {"kept": "yes"}


@pytest.mark.parametrize("holder", [{"holderIdentity": ""}, {}, {"holderIdentity": None}])
@on_fake_time
async def test_a_lease_without_holder_is_taken_at_once(holder: dict[str, object]) -> None:
    store = Store()
    store.put(KEY, lease(leaseDurationSeconds=1, leaseTransitions=7, **holder))
    await elector(SmallKubeApi(store), "a").acquire()
    assert now() == 0
    assert spec(store)["leaseTransitions"] == 8


@on_fake_time
async def test_the_duration_of_the_holder_counts_not_ours() -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="go", leaseDurationSeconds=60, renewTime="x"))
    await elector(SmallKubeApi(store), "a").acquire()
    assert 60 <= now() <= 65


@pytest.mark.parametrize("duration", ["soon", "", "nan", "inf", -60, 0, [], {"seconds": 60}])
@on_fake_time
async def test_a_duration_that_cannot_be_read_is_taken_for_15_s(duration: object) -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="go", leaseDurationSeconds=duration))
    await elector(SmallKubeApi(store), "a").acquire()
    assert 15 <= now() <= 20
    assert spec(store)["leaseDurationSeconds"] == 15


@on_fake_time
async def test_a_duration_that_cannot_be_read_is_said_once() -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="go", leaseDurationSeconds="soon"))
    with capture_logs() as logs:
        await elector(SmallKubeApi(store), "a").acquire()
    assert [each for each in logs if each["log_level"] == "warning"] == [
        {
            "event": "the duration in the Lease cannot be read",
            "lease": "penstock",
            "duration": "soon",
            "taken_for_seconds": 15,
            "log_level": "warning",
        }
    ]


@on_fake_time
async def test_a_leader_whose_lease_is_taken_with_an_unreadable_duration_knows_who_took_it() -> None:
    store = Store()
    leader = elector(SmallKubeApi(store), "a")
    await leader.acquire()
    store.put(KEY, lease(holderIdentity="go", leaseDurationSeconds="soon"))
    with pytest.raises(LeaseLost, match=r"^go holds the Lease penstock$"):
        await leader.keep()
    assert leader.role == "standby"


@pytest.mark.parametrize("transitions", ["many", [], "inf", None])
@on_fake_time
async def test_transitions_that_cannot_be_read_are_counted_anew(transitions: object) -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="", leaseTransitions=transitions))
    await elector(SmallKubeApi(store), "a").acquire()
    assert spec(store)["leaseTransitions"] == 1


@on_fake_time
async def test_the_same_identity_resumes_its_lease_at_once() -> None:
    store = Store()
    await elector(SmallKubeApi(store), "a").acquire()
    await asyncio.sleep(3)
    await elector(SmallKubeApi(store), "a").acquire()
    assert now() == 3
    assert spec(store)["leaseTransitions"] == 0


@on_fake_time
async def test_of_two_takers_the_api_server_refuses_one() -> None:
    store = Store()
    store.put(KEY, lease(holderIdentity="", leaseDurationSeconds=1))
    both = [elector(SmallKubeApi(store), name) for name in "ab"]
    tasks = [asyncio.create_task(each.acquire()) for each in both]
    await asyncio.sleep(1)
    assert sorted(each.role for each in both) == ["leader", "standby"]
    assert spec(store)["leaseTransitions"] == 1
    for task in tasks:
        await stopped(task)


@on_fake_time
async def test_a_deleted_lease_is_not_created_while_its_holder_may_lead() -> None:
    store = Store()
    first = elector(SmallKubeApi(store), "a")
    await first.acquire()
    second = elector(SmallKubeApi(store), "b")
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(5)
    del store.objects[KEY]
    await asyncio.sleep(5)
    assert first.role == "standby" or not taking.done()
    await taking
    assert first.role == "standby"
    assert now() >= 15


@on_fake_time
async def test_release_touches_neither_another_holders_lease_nor_the_api_without_need() -> None:
    store = Store()
    first, api = elector(SmallKubeApi(store), "a"), SmallKubeApi(store)
    await first.acquire()
    second = elector(api, "b")
    await second.release()
    assert api.calls == []
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    await stopped(taking)
    await second.release()
    assert spec(store)["holderIdentity"] == "a"


@pytest.mark.parametrize(("duration", "deadline", "retry"), [(10, 10, 2), (15, 4, 2), (15, 10, 0)])
def test_timings_that_cannot_work_are_refused(duration: int, deadline: float, retry: float) -> None:
    with pytest.raises(ValueError, match="duration > renew deadline > 2 retry periods > 0"):
        LeaseTiming(duration, deadline, retry)


def test_an_identity_is_needed() -> None:
    with pytest.raises(ValueError, match="an elector needs an identity, such as the pod's name"):
        LeaseElector(SmallKubeApi(Store()), "ops", "penstock", "")
