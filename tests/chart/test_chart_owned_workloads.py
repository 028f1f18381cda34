"""What the chart grants suffices for owned workloads, and without it the condition says what to switch on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.api_servers_plugin import Served
from fakes.builders import service
from fakes.recorded_api import look
from penstock.controller.cache import FleetCache
from penstock.controller.revisions import RevisionObjects
from penstock.controller.wanted_revisions import Revision, WantedRevisions
from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.api import DEPLOYMENTS
from penstock.model.revision import workload_template
from penstock.model.spec import ServiceKey
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api
Render = Callable[..., list[dict[str, Any]]]
ENGINE = {"name": "engine", "image": "vllm", "ports": [{"containerPort": 8000}]}
TEMPLATE = workload_template({"spec": {"containers": [ENGINE]}})


@pytest.fixture
async def operator(
    request: pytest.FixtureRequest, render: Render, apiserver: ApiServer, served_real: Served, tmp_path: Path
) -> AsyncIterator[AioKubeApi]:
    """The API server as the chart's operator may use it, with a role in the test's namespace only."""
    namespace = served_real.namespace
    values = ("rbac.scope=namespaces", f"rbac.namespaces={{{namespace}}}", "gateway.enabled=false")
    for body in render(*values, f"ownedWorkloads.enabled={request.param}"):
        if body["kind"] in ("Role", "RoleBinding") and body["metadata"]["namespace"] == namespace:
            for subject in body.get("subjects", ()):
                subject["namespace"] = namespace
            plural = f"{body['kind'].lower()}s"
            path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{plural}"
            status, answer = await served_real.request("POST", path, body)
            assert status == 201, answer
    token = apiserver.token_for(namespace, "penstock")
    kube = await connect(kubeconfig=str(apiserver.kubeconfig(tmp_path / "operator", token=token)))
    yield kube
    await kube.close()


class Owner:
    """The part of the operator under test, with the permissions of the chart."""

    def __init__(self, kube: AioKubeApi, served: Served) -> None:
        self._served, self._cache = served, FleetCache()
        self._objects = RevisionObjects(kube, self._cache)
        self._spec = replace(service(), key=ServiceKey(served.namespace, "chat"))
        self._now = 0.0

    async def ensure(self, revision: str) -> tuple[str, str] | None:
        await look(self._served, self._cache)
        self._now += 15.0
        wanted = WantedRevisions(
            self._spec, Revision(revision, 1, TEMPLATE), idle=frozenset({"v1", "v2", "v3", "v4", "v5"})
        )
        return await self._objects.ensure(wanted, self._now)


@pytest.mark.parametrize("operator", ["true"], indirect=True)
async def test_the_operators_permissions_suffice(operator: AioKubeApi, served_real: Served) -> None:
    chat = Owner(operator, served_real)
    for revision in ("v1", "v2", "v3", "v4", "v5", "v5", "v5"):
        assert await chat.ensure(revision) is None
    left = {
        each["metadata"]["name"] for each in await served_real.kube.list(DEPLOYMENTS, served_real.namespace)
    }
    assert left == {"chat-v2", "chat-v3", "chat-v4", "chat-v5"}, "created, scaled in, the oldest deleted"


@pytest.mark.parametrize("operator", ["false"], indirect=True)
async def test_without_the_permission_it_is_said_what_to_switch_on(
    operator: AioKubeApi, served_real: Served
) -> None:
    problem = await Owner(operator, served_real).ensure("v1")
    assert problem is not None
    assert problem[0] == "RevisionForbidden"
    assert problem[1].startswith(f"Deployment {served_real.namespace}/chat-v1 cannot be written: deployments")
    assert problem[1].endswith("; install the chart with ownedWorkloads.enabled=true, or grant it yourself")
