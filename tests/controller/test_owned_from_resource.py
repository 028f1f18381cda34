"""From an InferenceService with a pod template, as the API server stores it, to its objects and back."""

from __future__ import annotations

import copy
from typing import Any

from fakes.api_servers_plugin import Served
from fakes.recorded_api import look
from penstock.controller.cache import FleetCache
from penstock.controller.found_revisions import stable_revision
from penstock.controller.revisions import RevisionObjects
from penstock.controller.wanted_revisions import wanted_revisions
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, SERVICES, Object
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.model.spec import ServiceKey, ServiceRef

# What a pruning API server would take away if the schema did not let it through, and what has no order.
POD = {
    "terminationGracePeriodSeconds": 120,
    "nodeSelector": {"gpu": "h100", "zone": "a"},
    "volumes": [{"name": "weights", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}],
    "containers": [
        {
            "name": "engine",
            "image": "vllm:1",
            "args": ["--model", "llama"],
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
            "ports": [{"name": "http", "containerPort": 8000}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
            "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
        }
    ],
}
RESOURCE = {
    "apiVersion": "serving.penstock.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "chat"},
    "spec": {
        "workload": {"type": "Template", "template": {"metadata": {"labels": {"team": "a"}}, "spec": POD}},
        "slo": {"ttft": {"p95": "500ms"}},
        "replicas": {"min": 2},
    },
}


class Operator:
    """What the tick does for one owned workload."""

    def __init__(self, served: Served) -> None:
        self._served, self.cache = served, FleetCache()
        self._objects = RevisionObjects(served.kube, self.cache)
        self.key = ServiceKey(served.namespace, "chat")
        self._now = 0.0

    async def tick(self, body: Object, plan: CanaryPlan | None = None) -> str:
        """Go by the InferenceService and what is in the cluster; return the stable revision."""
        self._now += 30.0
        await look(self._served, self.cache)
        self.cache.see_service(body)
        spec = self.cache.services[self.key].spec
        assert spec is not None
        assert spec.template is not None
        found = self.cache.revisions.of(self.key)
        stable = stable_revision(spec.template.revision, "", found, kept=self._objects.remembered(self.key))
        wanted = wanted_revisions(
            spec, spec.template, plan, stable=stable, found=found, target=None, switched_at=0.0, now=self._now
        )
        assert await self._objects.ensure(wanted, self._now) is None
        self.cache.serve_by(self.key, wanted.stable.revision)
        return wanted.stable.revision


async def change_image(served: Served, image: str) -> Object:
    spec: dict[str, Any] = copy.deepcopy(POD)
    spec["containers"][0]["image"] = image
    patch = {"spec": {"workload": {"template": {"spec": spec}}}}
    return await served.kube.patch(INFERENCE_SERVICES, served.namespace, "chat", patch)


async def test_a_stored_template_becomes_pods_unchanged(served: Served) -> None:
    stored = await served.kube.create(INFERENCE_SERVICES, served.namespace, RESOURCE)
    operator = Operator(served)
    revision = await operator.tick(stored)
    body = await served.kube.get(DEPLOYMENTS, served.namespace, f"chat-{revision}")
    assert body["spec"]["replicas"] == 2
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["apiVersion"]) == (stored["metadata"]["uid"], stored["apiVersion"])
    pods = body["spec"]["template"]
    assert pods["metadata"]["labels"]["team"] == "a"
    assert {name: pods["spec"][name] for name in POD if name != "containers"} == {
        name: value for name, value in POD.items() if name != "containers"
    }
    (engine,) = pods["spec"]["containers"]
    assert (engine["image"], engine["resources"]) == ("vllm:1", {"limits": {"nvidia.com/gpu": "1"}})
    spec = operator.cache.services[operator.key].spec
    assert spec is not None
    assert (spec.target.name, spec.service) == (f"chat-{revision}", ServiceRef("chat"))


async def test_a_promotion_from_template_to_template_and_back_with_the_status_lost(served: Served) -> None:
    stored = await served.kube.create(INFERENCE_SERVICES, served.namespace, RESOURCE)
    operator = Operator(served)
    first = await operator.tick(stored)
    changed = await change_image(served, "vllm:2")
    assert await operator.tick(changed) == first, "a changed template alone changes nothing that serves"
    spec = operator.cache.services[operator.key].spec
    assert spec is not None
    assert spec.template is not None
    second = spec.template.revision
    await operator.tick(changed, CanaryPlan(CanaryPhase.TESTING, second, canary_replicas=1))
    assert await operator.tick(changed, CanaryPlan(CanaryPhase.PROMOTING, second, promote=second)) == second
    # Whoever looks now for the first time, without a status, finds the same.
    assert await Operator(served).tick(changed) == second
    back = await change_image(served, "vllm:1")
    assert await Operator(served).tick(back) == second
    operator = Operator(served)
    again = CanaryPlan(CanaryPhase.PROMOTING, first, promote=first)
    assert await operator.tick(back, again) == first
    service = await served.kube.get(SERVICES, served.namespace, "chat")
    assert service["spec"]["selector"]["serving.penstock.dev/revision"] == first
    assert len(await served.kube.list(DEPLOYMENTS, served.namespace)) == 2, (
        "the same template, the same object"
    )
