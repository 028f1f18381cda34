"""Canaries on a real cluster: pods, Services, gateways and Prometheus are real, engines stand in.

A few requests a second decide within a minute where the margins are wide: twice as many slow requests, five
points more errors. What finer margins take is `make bench-canary`'s business.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from fakes.kind_cluster import SYSTEM, Cluster, deployment, service
from fakes.kind_load import loaded, report, stop

pytestmark = [pytest.mark.kind, pytest.mark.slow]
PLACES = 32
WIDE = {"stepPercents": [50], "maxRegressionPercent": 100, "maxDuration": "10m", "warmUp": "5s"}


def owned(namespace: str, *flags: str) -> dict[str, Any]:
    """Return an InferenceService that owns its pods: the engine of manifests/kind with further flags.

    It has places enough that a machine which stands still for a second refuses nobody.
    """
    body = service(namespace, min=1, max=1)
    template = deployment(namespace)[0]["spec"]["template"]
    template["spec"]["containers"][0]["args"] += [f"--max-num-seqs={PLACES}", *flags]
    body["spec"]["engine"]["maxConcurrency"] = PLACES
    body["spec"] |= {"workload": {"type": "Template", "modelNames": ["llama-3.1-70b"], "template": template}}
    return with_canary(body)


def with_canary(body: dict[str, Any], **canary: Any) -> dict[str, Any]:
    body["spec"] |= {
        "routing": {"type": "Envoy", "balancer": "LeastRequests"},
        "canary": WIDE | canary,
    }
    body["spec"]["slo"] = {"ttft": {"p95": "1s"}, "availabilityPercent": "90"}
    return body


def canary(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return status.canary."""
    return dict(cluster.status(namespace).get("canary") or {})


def serves(cluster: Cluster, namespace: str) -> None:
    """Wait until the first revision and its gateways serve."""
    cluster.wait(
        "the service is ready",
        lambda: cluster.condition(namespace, "Ready").get("status") == "True",
        namespace=namespace,
    )

    def gateways() -> bool:
        words = ("get", "deployment", "penstock-gateway", "-n", namespace, "-o", "json")
        found = cluster.kubectl(*words, check=False)
        status = json.loads(found.stdout)["status"] if not found.returncode else {}
        return bool(status.get("readyReplicas", 0) >= 1)

    cluster.wait("a gateway is ready", gateways, namespace=namespace, seconds=90)
    cluster.wait(
        "an engine is ready",
        lambda: bool(cluster.status(namespace).get("replicas", {}).get("ready")),
        namespace=namespace,
    )


def in_phase(cluster: Cluster, namespace: str, phase: str, *, seconds: float) -> dict[str, Any]:
    """Wait for a phase; return status.canary then."""
    cluster.wait(
        f"the canary is {phase}",
        lambda: canary(cluster, namespace).get("phase") == phase,
        namespace=namespace,
        seconds=seconds,
    )
    return canary(cluster, namespace)


def replicas_of(cluster: Cluster, namespace: str, revision: str) -> int:
    return int(cluster.get("deployment", f"chat-{revision}", namespace)["spec"]["replicas"])


def under_test(cluster: Cluster, namespace: str) -> None:
    """Wait until the canary has half of the requests."""
    cluster.wait(
        "the canary has its share",
        lambda: canary(cluster, namespace).get("weightPercent") == 50,
        namespace=namespace,
        seconds=60,
    )


@pytest.mark.seconds(130)
def test_a_good_revision_is_promoted_and_no_request_fails(cluster: Cluster) -> None:
    with cluster.namespace("good") as namespace:
        cluster.apply(owned(namespace))
        serves(cluster, namespace)
        old = canary(cluster, namespace)["stableRevision"]
        cluster.apply(loaded(namespace, "8:150", tokens=10))
        cluster.apply(owned(namespace, "--seed=2"))
        under_test(cluster, namespace)
        in_phase(cluster, namespace, "Promoted", seconds=140)
        new = canary(cluster, namespace)["stableRevision"]
        assert new != old
        cluster.wait(
            "the earlier revision is scaled in",
            lambda: replicas_of(cluster, namespace, old) == 0,
            namespace=namespace,
        )
        assert replicas_of(cluster, namespace, new) == 1
        selector = cluster.get("service", "chat", namespace)["spec"]["selector"]
        assert selector["serving.penstock.dev/revision"] == new
        assert cluster.condition(namespace, "CanaryHealthy")["reason"] == "Promoted"
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=120)
    assert measured["errors"] == {}, measured


@pytest.mark.seconds(130)
def test_a_slow_revision_is_taken_back_and_no_request_fails(cluster: Cluster) -> None:
    with cluster.namespace("slow") as namespace:
        cluster.apply(owned(namespace))
        serves(cluster, namespace)
        old = canary(cluster, namespace)["stableRevision"]
        cluster.apply(loaded(namespace, "4:140", tokens=10))
        cluster.apply(owned(namespace, "--slow-factor=4"))
        under_test(cluster, namespace)
        bad = in_phase(cluster, namespace, "RolledBack", seconds=130)
        assert bad["stableRevision"] == old
        assert bad["rejectedRevision"] == bad["revision"]
        healthy = cluster.condition(namespace, "CanaryHealthy")
        assert healthy["reason"] == "TTFTRegressed", healthy
        cluster.wait(
            "it is scaled in",
            lambda: replicas_of(cluster, namespace, bad["revision"]) == 0,
            namespace=namespace,
        )
        assert replicas_of(cluster, namespace, old) == 1
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=120)
    assert measured["errors"] == {}, measured


@pytest.mark.seconds(60)
def test_a_crashing_revision_never_gets_a_request(cluster: Cluster) -> None:
    with cluster.namespace("crash") as namespace:
        cluster.apply(owned(namespace))
        serves(cluster, namespace)
        cluster.apply(loaded(namespace, "3:60", tokens=20))
        cluster.apply(owned(namespace, "--max-num-seqs=0"))
        cluster.wait(
            "it says that the canary crashes",
            lambda: cluster.condition(namespace, "CanaryHealthy").get("reason") == "CanaryNotReady",
            namespace=namespace,
            seconds=60,
        )
        assert "CrashLoopBackOff" in cluster.condition(namespace, "CanaryHealthy")["message"]
        cluster.stays(
            "without a share",
            lambda: not canary(cluster, namespace).get("weightPercent"),
            namespace=namespace,
            seconds=15,
        )
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=90)
    assert measured["errors"] == {}, measured


@pytest.mark.seconds(100)
def test_a_restarted_operator_continues_in_the_middle_of_a_step(cluster: Cluster) -> None:
    def narrow(*flags: str) -> dict[str, Any]:
        # Some hundred requests cannot decide on five percent: the step outlasts the restart.
        return with_canary(owned(namespace, *flags), maxRegressionPercent=5)

    with cluster.namespace("resumed") as namespace:
        cluster.apply(narrow())
        serves(cluster, namespace)
        cluster.apply(loaded(namespace, "3:100", tokens=20))
        cluster.apply(narrow("--seed=2"))
        under_test(cluster, namespace)

        def counted() -> int:
            rows = canary(cluster, namespace).get("rows") or []
            return max((int(row.get("canaryRequests", 0)) for row in rows), default=0)

        cluster.wait("evidence is shown", lambda: counted() > 10, namespace=namespace, seconds=75)
        before, seen = canary(cluster, namespace), counted()
        cluster.kubectl("rollout", "restart", "deployment/penstock", "-n", SYSTEM)
        cluster.kubectl("rollout", "status", "deployment/penstock", "-n", SYSTEM, "--timeout=90s")
        cluster.stays(
            "at its step",
            lambda: (
                canary(cluster, namespace).get("since") == before["since"]
                and canary(cluster, namespace).get("weightPercent") == 50
                and counted() >= seen
            ),
            namespace=namespace,
            seconds=15,
        )
        assert canary(cluster, namespace)["revision"] == before["revision"]
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=120)
    assert measured["errors"] == {}, measured


@pytest.mark.seconds(80)
def test_a_service_deleted_in_the_middle_leaves_its_stable_arm_serving(cluster: Cluster) -> None:
    with cluster.namespace("deleted") as namespace:
        own = deployment(namespace, replicas=1)
        tried = json.loads(json.dumps(deployment(namespace, replicas=0)[0]).replace('"chat"', '"next"'))
        body = service(namespace, min=1, max=1)
        target = {"group": "apps", "kind": "Deployment", "name": "next"}
        cluster.apply(*own, tried, with_canary(body, targetRef=target))
        serves(cluster, namespace)
        cluster.apply(loaded(namespace, "3:75", tokens=20))
        under_test(cluster, namespace)
        cluster.kubectl("delete", "psvc", "chat", "-n", namespace)

        def handed_back() -> bool:
            found = cluster.get("service", "chat-penstock", namespace)["spec"]["selector"]
            return bool(found == {"app": "chat"})

        cluster.wait("the Service selects the stable pods", handed_back, namespace=namespace, seconds=30)
        measured = report(cluster, namespace, seconds=120)
        left = cluster.kubectl("get", "deployments", "-n", namespace, "-o", "name").stdout.split()
    assert measured["errors"] == {}, measured
    assert {"deployment.apps/chat", "deployment.apps/next"} <= set(left)
