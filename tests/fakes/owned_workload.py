"""An owned workload on an API server under test, and the part of the operator that keeps it there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fakes.api_servers_plugin import Served
from fakes.builders import service
from fakes.recorded_api import RecordedApi, look
from penstock.controller.cache import FleetCache
from penstock.controller.revisions import RevisionObjects
from penstock.controller.wanted_revisions import Revision, WantedRevisions
from penstock.kube.api import DEPLOYMENTS, SERVICES
from penstock.model.revision import workload_template
from penstock.model.spec import Mode, ServiceKey, ServiceSpec

EARLIER = frozenset({"v1", "v2", "v3", "v4", "v5", "v6"})


def template(image: str, **container: Any) -> Any:
    ports = [{"name": "http", "containerPort": 8000}]
    engine = {"name": "engine", "image": image, "ports": ports} | container
    return workload_template({"metadata": {"labels": {"app": "chat"}}, "spec": {"containers": [engine]}})


def revision(name: str, *, replicas: int = 2, known: bool = True, **container: Any) -> Revision:
    return Revision(name, replicas, template(f"vllm:{name}", **container) if known else None)


class OwnedWorkload:
    """An owned workload ``chat`` in the test's namespace, and the part of the operator under test."""

    def __init__(self, served: Served, *, mode: Mode = Mode.ENFORCE, uid: str = "u-1") -> None:
        self.served, self.cache = served, FleetCache()
        self.kube = RecordedApi(served.kube)
        self.objects = RevisionObjects(self.kube, self.cache)  # type: ignore[arg-type]
        key = ServiceKey(served.namespace, "chat")
        self.spec: ServiceSpec = replace(service(), key=key, mode=mode, uid=uid)
        self.now = 0.0

    async def ensure(
        self, stable: Revision, canary: Revision | None = None, *, idle: frozenset[str] = EARLIER
    ) -> tuple[str, str] | None:
        """Let 15 s pass, see what is there, bring it to what is wanted."""
        self.now += 15.0
        await look(self.served, self.cache)
        return await self.objects.ensure(WantedRevisions(self.spec, stable, canary, idle), self.now)

    async def deployments(self) -> dict[str, tuple[str, int]]:
        """Return arm and replicas of every Deployment, by name."""
        bodies = await self.served.kube.list(DEPLOYMENTS, self.served.namespace)
        return {
            each["metadata"]["name"]: (
                each["metadata"].get("labels", {}).get("serving.penstock.dev/arm", ""),
                each["spec"]["replicas"],
            )
            for each in bodies
        }

    async def selected(self) -> dict[str, str]:
        """Return the revision that every Service selects."""
        return {
            each["metadata"]["name"]: each["spec"]["selector"]["serving.penstock.dev/revision"]
            for each in await self.served.kube.list(SERVICES, self.served.namespace)
        }

    async def get(self, name: str) -> dict[str, Any]:
        return await self.served.kube.get(DEPLOYMENTS, self.served.namespace, name)

    async def scale(self, name: str, replicas: int) -> None:
        scale = await self.served.kube.get_scale(DEPLOYMENTS, self.served.namespace, name)
        await self.served.kube.patch_scale(
            DEPLOYMENTS,
            self.served.namespace,
            name,
            replicas=replicas,
            resource_version=scale.resource_version,
        )
