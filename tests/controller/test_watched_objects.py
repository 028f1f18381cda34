"""Watched objects as small values: workloads, pods, autoscalers, Services."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.controller.cache import FleetCache
from penstock.controller.pod_state import DELETION_COST, choose_victims, read_pod, stuck_pods
from penstock.controller.selectors import ambiguity
from penstock.controller.workloads import label_selector, read_workload
from penstock.model.spec import ServiceKey, TargetRef
from penstock.sandbox.fake_selectors import selector_string

CHAT = TargetRef("apps", "Deployment", "chat")


def deployment(target: int = 3, *, version: int = 10, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "prod",
            "name": "chat",
            "uid": "d",
            "generation": 2,
            "resourceVersion": str(version),
        },
        "spec": {"replicas": target, "selector": {"matchLabels": {"app": "chat"}}},
        "status": {"observedGeneration": 2, "replicas": target, "updatedReplicas": target} | status,
    }


def pod(
    name: str, *, ready: bool = True, waiting: str = "", unschedulable: str = "", cost: str = ""
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    if unschedulable:
        conditions.append(
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}
        )
    state = {"waiting": {"reason": waiting, "message": "back-off 5m0s"}} if waiting else {"running": {}}
    annotations = {DELETION_COST: cost} if cost else {}
    return {
        "metadata": {"name": name, "annotations": annotations},
        "status": {"conditions": conditions, "containerStatuses": [{"state": state}]},
    }


def service(generation: int = 1, *, version: int = 5, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.penstock.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {
            "namespace": "prod",
            "name": "chat",
            "uid": "u",
            "generation": generation,
            "resourceVersion": str(version),
        },
        "spec": {
            "workload": {"targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"}},
            "slo": {"ttft": {"p95": "500ms"}},
            "engine": {"profile": {"type": "Named", "name": "llama-3.1-8b-h100"}},
        }
        | spec,
    }


@pytest.mark.parametrize(
    ("case", "status", "rolling", "failed", "stuck"),
    [
        ("a settled deployment", {"readyReplicas": 3}, False, False, 0),
        (
            "a scale-up has only updated pods",
            {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 1},
            False,
            False,
            0,
        ),
        ("old pods beside updated ones are a rollout", {"replicas": 4, "updatedReplicas": 1}, True, False, 0),
        (
            "a rollout past its deadline has failed",
            {
                "replicas": 4,
                "updatedReplicas": 1,
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                ],
            },
            True,
            True,
            0,
        ),
        (
            "pods that a quota refuses are stuck",
            {
                "replicas": 1,
                "updatedReplicas": 1,
                "readyReplicas": 1,
                "conditions": [
                    {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
                ],
            },
            False,
            False,
            2,
        ),
        (
            "a status behind its generation says nothing yet",
            {"observedGeneration": 1, "updatedReplicas": 0},
            False,
            False,
            0,
        ),
    ],
)
def test_a_pool_is_read_from_the_workloads_status(case, status, rolling, failed, stuck) -> None:  # type: ignore[no-untyped-def]
    pool = read_workload(deployment(**status)).pool()
    assert (pool.rolling_out, pool.rollout_failed, pool.stuck) == (rolling, failed, stuck), case


@pytest.mark.parametrize(
    ("selector", "query"),
    [
        ({"matchLabels": {"tier": "b", "app": "chat"}}, "app=chat,tier=b"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, "app in (a,b)"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, "app notin (a)"),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "app"),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, "!app"),
        (
            {
                "matchLabels": {"app": "chat"},
                "matchExpressions": [{"key": "tier", "operator": "DoesNotExist", "values": []}],
            },
            "app=chat,!tier",
        ),
        ({}, ""),
    ],
)
def test_the_whole_selector_of_a_workload_is_asked_for(selector: dict[str, Any], query: str) -> None:
    assert label_selector(selector) == selector_string(selector) == query
    body = deployment()
    body["spec"]["selector"] = selector
    workload = read_workload(body)
    assert (workload.label_selector, workload.selector) == (query, selector.get("matchLabels", {}))


def test_starting_replicas_are_those_that_are_asked_for_not_ready_and_not_stuck() -> None:
    pool = read_workload(deployment(5, readyReplicas=2)).pool(stuck=2, unschedulable=1, cause="x")
    assert (pool.starting, pool.stuck, pool.unschedulable) == (1, 2, 1)


def test_stuck_pods_are_counted_with_their_most_frequent_cause() -> None:
    pods = [
        read_pod(pod("a")),
        read_pod(pod("b", ready=False)),
        read_pod(pod("c", ready=False, unschedulable="0/3 nodes are available: insufficient nvidia.com/gpu")),
        read_pod(pod("d", ready=False, waiting="CrashLoopBackOff")),
        read_pod(pod("e", ready=False, waiting="CrashLoopBackOff")),
    ]
    found = stuck_pods(pods)
    assert (found.stuck, found.unschedulable) == (3, 1)
    assert found.cause == "2 pods are CrashLoopBackOff: back-off 5m0s"


def test_victims_are_unready_first_then_least_in_flight_and_unknown_last() -> None:
    pods = [read_pod(pod(name, ready=name != "d")) for name in "abcd"]
    assert choose_victims(pods, {"a": 9.0, "b": 2.0}, 3) == ["d", "b", "a"]


def test_a_conflict_names_the_object_that_the_user_knows() -> None:
    cache = FleetCache()
    hpa = {
        "metadata": {"namespace": "prod", "name": "keda-hpa-chat"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}},
    }
    scaled = {"metadata": {"namespace": "prod", "name": "chat"}, "spec": {"scaleTargetRef": {"name": "chat"}}}
    cache.see_autoscaler("HorizontalPodAutoscaler", hpa)
    assert cache.conflict(ServiceKey("prod", "chat"), CHAT) == "HorizontalPodAutoscaler/keda-hpa-chat"
    cache.see_autoscaler("ScaledObject", scaled)
    assert cache.conflict(ServiceKey("prod", "chat"), CHAT) == "ScaledObject/chat"
    paused = scaled | {
        "metadata": scaled["metadata"] | {"annotations": {"autoscaling.keda.sh/paused": "true"}}
    }
    cache.see_autoscaler("ScaledObject", paused)
    cache.forget_autoscaler("HorizontalPodAutoscaler", "prod", "keda-hpa-chat")
    assert cache.conflict(ServiceKey("prod", "chat"), CHAT) == ""
    assert cache.conflict(ServiceKey("test", "chat"), CHAT) == ""


def test_the_default_service_is_the_only_one_that_selects_the_pods() -> None:
    cache = FleetCache()
    for name, selector in {"chat": {"app": "chat"}, "other": {"app": "x"}, "external": {}}.items():
        cache.see_cluster_service(
            {"metadata": {"namespace": "prod", "name": name}, "spec": {"selector": selector}}
        )
    labels = {"app": "chat", "tier": "gpu"}
    assert cache.services_selecting("prod", labels) == ["chat"]
    cache.see_cluster_service(
        {"metadata": {"namespace": "prod", "name": "chat-headless"}, "spec": {"selector": {"app": "chat"}}}
    )
    found = cache.services_selecting("prod", labels)
    cache.see_service(service())
    spec = cache.services[ServiceKey("prod", "chat")].spec
    assert spec is not None
    assert ambiguity(spec, found) == (
        "several Services select the pods of Deployment/chat (chat, chat-headless): "
        "name one in workload.serviceRef"
    )
    assert ambiguity(spec, []) == (
        "no Service selects the pods of Deployment/chat: create one, or name it in workload.serviceRef"
    )


def test_pods_are_joined_over_all_slices_of_a_service() -> None:
    cache = FleetCache()

    def slice_of(name: str, *pods: str) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "prod", "name": name, "labels": {"kubernetes.io/service-name": "chat"}},
            "endpoints": [{"targetRef": {"kind": "Pod", "name": pod}} for pod in pods],
        }

    cache.see_slice(slice_of("chat-1", "a", "b"))
    cache.see_slice(slice_of("chat-2", "c"))
    assert cache.pods_behind("prod", "chat") == {"a", "b", "c"}
    cache.see_slice(slice_of("chat-1", "b"))
    cache.forget_slice("prod", "chat-2")
    assert cache.pods_behind("prod", "chat") == {"b"}
    assert cache.pods_behind("prod", "other") == frozenset()


def test_an_invalid_spec_is_kept_as_a_value_and_mended_by_the_next_generation() -> None:
    cache, key = FleetCache(), ServiceKey("prod", "chat")
    cache.see_service(service(slo={}))
    known = cache.services[key]
    assert known.spec is None
    assert known.invalid is not None
    cache.see_service(service(generation=2, version=6))
    assert cache.services[key].spec is not None
    assert cache.services[key].invalid is None
