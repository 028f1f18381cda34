"""What goes over the wire, and what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from penstock.kube.aio_client import AioKubeApi
from penstock.kube.api import (
    DEPLOYMENTS,
    INFERENCE_SERVICES,
    LEASES,
    PODS,
    STATEFUL_SETS,
    KubeError,
    NotFound,
    PatchType,
    Resource,
    Scale,
    Unprocessable,
)

Server = Any  # the fixture's ApiServer
CHAT = "/apis/serving.penstock.dev/v1alpha1/namespaces/prod/inferenceservices/chat"
SCALE = {
    "metadata": {"name": "chat", "resourceVersion": "41"},
    "spec": {"replicas": 3},
    "status": {"replicas": 2, "selector": "app=chat"},
}


def ok(**body: object) -> web.Response:
    return web.json_response(body)


async def test_get_asks_for_one_object(api: AioKubeApi, server: Server) -> None:
    server.queue = [ok(kind="InferenceService")]
    assert await api.get(INFERENCE_SERVICES, "prod", "chat") == {"kind": "InferenceService"}
    assert server.asked == [("GET", CHAT)]
    assert server.headers[0]["User-Agent"].startswith("penstock/")
    assert "Authorization" not in server.headers[0]
    assert server.counted == [("get", "inferenceservices", "200")]


async def test_create_and_replace_name_the_field_manager(api: AioKubeApi, server: Server) -> None:
    server.queue = [ok(n=1), ok(n=2)]
    await api.create(LEASES, "ops", {"metadata": {"name": "penstock"}})
    await api.replace(LEASES, "ops", "penstock", {"metadata": {"resourceVersion": "7"}})
    path = "/apis/coordination.k8s.io/v1/namespaces/ops/leases"
    assert server.asked == [
        ("POST", f"{path}?fieldManager=penstock"),
        ("PUT", f"{path}/penstock?fieldManager=penstock"),
    ]
    assert server.bodies == [{"metadata": {"name": "penstock"}}, {"metadata": {"resourceVersion": "7"}}]
    assert server.counted == [("create", "leases", "200"), ("update", "leases", "200")]


@pytest.mark.parametrize(
    ("patch_type", "body"),
    [
        (PatchType.MERGE, {"status": {"replicas": 0, "note": None}}),
        (PatchType.JSON, [{"op": "test", "path": "/metadata/resourceVersion", "value": "7"}]),
        (PatchType.APPLY, {"apiVersion": "v1", "kind": "Pod"}),
    ],
)
async def test_a_patch_has_its_own_content_type(
    api: AioKubeApi, server: Server, patch_type: PatchType, body: object
) -> None:
    server.queue = [ok()]
    await api.patch(INFERENCE_SERVICES, "prod", "chat", body, subresource="status", patch_type=patch_type)
    assert server.asked == [("PATCH", f"{CHAT}/status?fieldManager=penstock")]
    assert server.headers[0]["Content-Type"] == patch_type.value
    assert server.bodies == [body]
    assert server.counted == [("patch", "inferenceservices/status", "200")]


@pytest.mark.parametrize(("patch_type", "body"), [(PatchType.JSON, {}), (PatchType.MERGE, [])])
async def test_a_body_that_does_not_fit_its_patch_type_is_not_sent(
    api: AioKubeApi, server: Server, patch_type: PatchType, body: object
) -> None:
    with pytest.raises(TypeError, match=r"is no application/(json|merge)-patch\+json"):
        await api.patch(PODS, "prod", "chat-0", body, patch_type=patch_type)
    assert server.asked == []


async def test_scale_is_read_and_written_under_its_resource_version(api: AioKubeApi, server: Server) -> None:
    server.queue = [web.json_response(SCALE), web.json_response(SCALE)]
    assert await api.get_scale(DEPLOYMENTS, "prod", "chat") == Scale(3, 2, "app=chat", "41")
    assert (
        await api.patch_scale(DEPLOYMENTS, "prod", "chat", replicas=0, resource_version="40")
    ).replicas == 3
    path = "/apis/apps/v1/namespaces/prod/deployments/chat/scale"
    assert server.asked == [("GET", path), ("PATCH", f"{path}?fieldManager=penstock")]
    assert server.bodies[1] == {"metadata": {"resourceVersion": "40"}, "spec": {"replicas": 0}}
    assert server.counted == [("get", "deployments/scale", "200"), ("patch", "deployments/scale", "200")]


async def test_a_scale_of_zero_comes_without_its_field(api: AioKubeApi, server: Server) -> None:
    server.queue = [ok(metadata={"resourceVersion": "9"}, spec={}, status={"replicas": 0})]
    assert await api.get_scale(DEPLOYMENTS, "prod", "chat") == Scale(0, 0, "", "9")


async def test_a_list_goes_by_pages_of_500(api: AioKubeApi, server: Server) -> None:
    server.queue = [
        ok(metadata={"continue": "a/b=="}, items=[{"n": 1}, {"n": 2}]),
        ok(metadata={"continue": ""}, items=[{"n": 3}]),
    ]
    assert await api.list(PODS, "prod", label_selector="app=chat,tier in (a,b)") == [
        {"n": 1},
        {"n": 2},
        {"n": 3},
    ]
    selection = {"labelSelector": "app=chat,tier in (a,b)", "limit": "500"}
    asked = [URL(path) for _, path in server.asked]
    assert [url.path for url in asked] == ["/api/v1/namespaces/prod/pods"] * 2
    assert [dict(url.query) for url in asked] == [selection, selection | {"continue": "a/b=="}]
    assert server.counted == [("list", "pods", "200")] * 2


async def test_a_glance_asks_for_one_object(api: AioKubeApi, server: Server) -> None:
    server.queue = [ok(metadata={"continue": "a"}, items=[{"n": 1}])]
    await api.glance(INFERENCE_SERVICES, "prod")
    path = "/apis/serving.penstock.dev/v1alpha1/namespaces/prod/inferenceservices?limit=1"
    assert server.asked == [("GET", path)]


async def test_an_empty_list_of_all_namespaces_is_empty(api: AioKubeApi, server: Server) -> None:
    server.queue = [ok(metadata={}, items=None)]
    assert await api.list(INFERENCE_SERVICES) == []
    assert server.asked[0][1] == "/apis/serving.penstock.dev/v1alpha1/inferenceservices?limit=500"


async def test_an_expired_page_token_starts_the_list_again(
    api: AioKubeApi, server: Server, refusal: Any
) -> None:
    expired = "The provided continue parameter is too old"
    server.queue = [
        ok(metadata={"continue": "x"}, items=[{"n": 1}]),
        refusal(410, expired),
        ok(metadata={"continue": "y"}, items=[{"n": 1}]),
        refusal(410, expired),
        ok(metadata={}, items=[{"n": 1}, {"n": 2}]),
    ]
    assert await api.list(PODS) == [{"n": 1}, {"n": 2}]
    assert [path.partition("?")[2] for _, path in server.asked] == [
        "limit=500",
        "limit=500&continue=x",
        "limit=500",
        "limit=500&continue=y",
        "",
    ]


async def test_a_list_that_is_gone_for_good_is_an_error(
    api: AioKubeApi, server: Server, refusal: Any
) -> None:
    server.queue = [refusal(410, "gone") for _ in range(3)]
    with pytest.raises(KubeError, match=r"^gone$"):
        await api.list(PODS)


async def test_pages_come_one_by_one_and_all_of_them_again_after_an_expired_token(
    api: AioKubeApi, server: Server, refusal: Any
) -> None:
    server.queue = [
        ok(metadata={"continue": "x"}, items=[{"n": 1}]),
        refusal(410, "too old"),
        ok(metadata={}, items=[{"n": 1}, {"n": 2}]),
    ]
    assert [page async for page in api.pages(PODS)] == [[{"n": 1}], [{"n": 1}, {"n": 2}]]
    assert [path.partition("?")[2] for _, path in server.asked] == ["limit=500", "limit=500&continue=x", ""]


@pytest.mark.parametrize("name", ["../../secrets/x", "a/b", "", "..", "a?b", "a%2fb", "a\nb"])
async def test_a_name_that_would_be_another_path_is_refused_unsent(
    api: AioKubeApi, server: Server, name: str
) -> None:
    with pytest.raises(Unprocessable, match=r"is not the name of an object|name of the Deployment is empty"):
        await api.get_scale(DEPLOYMENTS, "prod", name)
    assert server.asked == []


async def test_built_in_workloads_need_no_discovery(api: AioKubeApi, server: Server) -> None:
    assert await api.resource_of("apps", "Deployment") == DEPLOYMENTS
    assert await api.resource_of("apps", "StatefulSet") == STATEFUL_SETS
    assert server.asked == []


async def test_other_kinds_are_discovered_once_preferred_version_first(
    api: AioKubeApi, server: Server
) -> None:
    documents = {
        "/apis/lws.io": {
            "versions": [{"version": "v1alpha1"}, {"version": "v1"}, {"version": "v2"}],
            "preferredVersion": {"version": "v2"},
        },
        "/apis/lws.io/v2": {"resources": [{"name": "other", "kind": "Other"}]},
        "/apis/lws.io/v1alpha1": {
            "resources": [
                {"name": "sets/scale", "kind": "Set"},
                {"name": "sets", "kind": "Set"},
            ]
        },
    }

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(documents[request.path])

    server.respond = answer
    wanted = Resource("lws.io", "v1alpha1", "sets", "Set")
    assert await api.resource_of("lws.io", "Set") == wanted
    assert await api.resource_of("lws.io", "Set") == wanted
    assert [path for _, path in server.asked] == ["/apis/lws.io", "/apis/lws.io/v2", "/apis/lws.io/v1alpha1"]


@pytest.mark.parametrize("group", ["nowhere.io", "apps", "../api", ""])
async def test_an_unknown_kind_is_not_found_and_asked_for_again(
    api: AioKubeApi, server: Server, refusal: Any, group: str
) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/apis/nowhere.io":
            return refusal(404, "the server could not find the requested resource")
        if request.path == "/apis/apps":
            return web.json_response({"versions": [{"version": "v1"}]})
        return web.json_response({"resources": []})

    server.respond = answer
    for _ in range(2):
        with pytest.raises(NotFound, match=f"^the API server serves no kind 'Thing' in group '{group}'$"):
            await api.resource_of(group, "Thing")
    assert len(server.asked) == {"nowhere.io": 2, "apps": 4, "../api": 0, "": 2}[group]


async def test_64_calls_are_under_way_at_once(api: AioKubeApi, server: Server) -> None:
    under_way = peak = 0
    full = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        if under_way == 64:
            full.set()
        await full.wait()
        under_way -= 1
        return web.json_response({})

    server.respond = answer
    await asyncio.gather(*(api.get(PODS, "prod", f"p-{number}") for number in range(100)))
    assert peak == 64
