"""A canary's pods are listed where its replicas stay unready, however its workload selects them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fakes.canary import CANARY_TARGET, adopted
from penstock.controller.cache import FleetCache
from penstock.controller.canary_actions import CanaryActions, CanaryParts
from penstock.controller.canary_state import CanaryState
from penstock.kube.api import PODS, Object, Resource
from penstock.model.canary import CanaryPhase, CanaryPlan
from penstock.telemetry.metrics import OperatorMetrics

CRASHING: Object = {
    "metadata": {"name": "chat-canary-1"},
    "status": {
        "containerStatuses": [
            {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "exit code 1"}}}
        ]
    },
}


async def test_crashing_pods_are_seen_also_where_a_workload_selects_them_by_expressions_alone() -> None:
    asked: list[str] = []

    async def pods(resource: Resource, namespace: str, *, label_selector: str) -> list[Object]:
        assert (resource, namespace) == (PODS, "prod")
        asked.append(label_selector)
        return [CRASHING]

    cache, kube, unused = FleetCache(), SimpleNamespace(list=pods), SimpleNamespace()
    chosen = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["chat", "talk"]}]}
    about = {"namespace": "prod", "name": CANARY_TARGET.name}
    cache.see_workload(
        "Deployment", {"metadata": about, "spec": {"replicas": 1, "selector": chosen}, "status": {}}
    )
    parts: Any = CanaryParts(kube, cache, unused, unused, unused, OperatorMetrics())  # type: ignore[arg-type]
    canary, plan = CanaryState(), CanaryPlan(CanaryPhase.WARMING, canary_replicas=1)
    for now in (1000.0, 1015.0):
        await CanaryActions(parts)._look_at_pods(adopted(), canary, plan, now)
    assert asked == ["app in (chat,talk)"]
    assert (canary.stuck.stuck, canary.stuck.cause) == (1, "1 pod is CrashLoopBackOff: exit code 1")
