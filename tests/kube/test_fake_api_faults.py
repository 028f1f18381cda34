"""What a test can let go wrong at the fake API, and what it can count."""

from __future__ import annotations

import asyncio
import time

import pytest

from fakes.api_servers_plugin import Served
from penstock.kube.api import (
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    LEASES,
    PODS,
    KubeError,
    Unavailable,
    Unprocessable,
)
from penstock.model.parse import InvalidSpec, parse_service
from penstock.sandbox.fake_api import FakeApi
from penstock.sandbox.fake_errors import ApiFailure
from penstock.sandbox.fake_faults import Fault


@pytest.fixture
def fake(served_fake: Served) -> FakeApi:
    """The fake behind `served_fake`."""
    assert served_fake.fake is not None
    return served_fake.fake


async def test_a_fault_hits_the_next_requests_that_fit(served_fake: Served, fake: FakeApi) -> None:
    fake.faults.add(Fault(verb="list", plural="pods", code=503, times=2))
    path = PODS.path("default")
    assert (await served_fake.request("GET", LEASES.path("default")))[0] == 200
    codes = [(await served_fake.request("GET", path))[0] for _ in range(3)]
    assert codes == [503, 503, 200]


async def test_a_429_says_when_to_come_back(served_fake: Served, fake: FakeApi) -> None:
    fake.faults.add(Fault(code=429, retry_after_seconds=7))
    async with served_fake.session.get(served_fake.url + PODS.path("default")) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "7"
        assert (await answer.json())["reason"] == "TooManyRequests"


async def test_the_adapter_waits_out_a_429(served_fake: Served, fake: FakeApi) -> None:
    fake.faults.add(Fault(code=429, retry_after_seconds=1))
    began = time.monotonic()
    assert await served_fake.kube.list(PODS, "default") == []
    assert time.monotonic() - began >= 1.0


async def test_the_adapter_gives_up_on_a_broken_server(served_fake: Served, fake: FakeApi) -> None:
    fake.faults.add(Fault(verb="list", plural="pods", code=500, times=1000))
    with pytest.raises(Unavailable):
        await served_fake.kube.list(PODS, "default")


async def test_a_delay_holds_only_its_own_request(served_fake: Served, fake: FakeApi) -> None:
    fake.faults.add(Fault(plural="pods", delay_seconds=0.5))
    began = time.monotonic()
    slow = asyncio.create_task(served_fake.request("GET", PODS.path("default")))
    await asyncio.sleep(0.05)
    await served_fake.request("GET", LEASES.path("default"))
    assert time.monotonic() - began < 0.5
    assert (await slow)[0] == 200
    assert time.monotonic() - began >= 0.5


async def test_requests_are_counted_by_verb_and_resource(served_fake: Served, fake: FakeApi) -> None:
    body = {"metadata": {"name": "chat"}, "spec": {"replicas": 1}}
    await served_fake.kube.create(DEPLOYMENTS, "default", body)
    scale = await served_fake.kube.get_scale(DEPLOYMENTS, "default", "chat")
    await served_fake.kube.patch_scale(
        DEPLOYMENTS, "default", "chat", replicas=2, resource_version=scale.resource_version
    )
    assert fake.requests.to_dict() == {
        "create deployments": 1,
        "get deployments/scale": 1,
        "patch deployments/scale": 1,
    }
    assert fake.requests.writes() == 2
    assert fake.requests.total(plural="deployments/scale") == 2
    fake.requests.reset()
    assert fake.requests.total() == 0


async def test_a_check_refuses_bad_objects(served_fake: Served, fake: FakeApi) -> None:
    def parses(body: object) -> str:
        try:
            parse_service(body)  # type: ignore[arg-type]
        except InvalidSpec as error:
            return str(error)
        return ""

    fake.check("serving.penstock.dev", "InferenceService", parses)
    bad = {
        "metadata": {"name": "chat"},
        "spec": {
            "workload": {"targetRef": {"name": "chat"}},
            "slo": {"ttft": {"p95": "1s"}},
            "replicas": {"min": 9, "max": 3},
        },
    }
    with pytest.raises(Unprocessable) as refused:
        await served_fake.kube.create(INFERENCE_SERVICES, "default", bad)
    assert refused.value.message.endswith(
        'InferenceService.serving.penstock.dev "chat" is invalid: '
        "spec.replicas.min: min 9 is above max 3: raise max or lower min"
    )


async def test_nothing_that_is_not_served_answers(served_fake: Served) -> None:
    for method, path in (
        ("GET", "/nonsense"),
        ("GET", "/apis/apps/v2/deployments"),
        ("GET", "/api/v1/namespaces/default/pods/a/b/c"),
        ("POST", "/api/v1/namespaces/default/pods/a/binding"),
        ("GET", "/api/v1/pods/no-namespace"),
    ):
        status, answer = await served_fake.request(method, path, {} if method == "POST" else None)
        assert (status, answer["reason"]) == (404, "NotFound"), path


async def test_a_body_that_is_no_object_is_a_bad_request(served_fake: Served) -> None:
    path = PODS.path("default")
    assert (await served_fake.request("POST", path, [1]))[0] == 400
    async with served_fake.session.post(served_fake.url + path, data=b"{") as answer:
        assert answer.status == 400


async def test_objects_survive_a_restart_of_the_server(served_fake: Served, fake: FakeApi) -> None:
    await served_fake.kube.create(PODS, "default", {"metadata": {"name": "p"}})
    port = int(fake.url.rpartition(":")[2])
    await fake.stop()
    with pytest.raises(KubeError):
        await served_fake.kube.get(PODS, "default", "p")
    await fake.start(port=port)
    assert (await served_fake.kube.get(PODS, "default", "p"))["metadata"]["name"] == "p"


def test_the_objects_are_reachable_in_the_process() -> None:
    fake = FakeApi()
    fake.create(DEPLOYMENTS, {"metadata": {"name": "chat", "namespace": "prod"}, "spec": {}})
    fake.edit(DEPLOYMENTS, "prod", "chat", lambda body: body | {"spec": {"replicas": 3}})
    fake.edit(
        DEPLOYMENTS, "prod", "chat", lambda body: body | {"status": {"replicas": 3}}, subresource="status"
    )
    (chat,) = fake.objects(DEPLOYMENTS)
    assert (chat["spec"], chat["status"]) == ({"replicas": 3}, {"replicas": 3})
    fake.delete(DEPLOYMENTS, "prod", "chat")
    with pytest.raises(ApiFailure, match=r'deployments\.apps "chat" not found'):
        fake.get(DEPLOYMENTS, "prod", "chat")
