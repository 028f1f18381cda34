"""Replicas on a real cluster: kubelet, Deployments, Prometheus and load are real, engines are stand-ins."""

from __future__ import annotations

import json
import os
import time

import pytest

from fakes.kind_cluster import MONITORING, SYSTEM, WINDOW_SECONDS, Cluster, deployment, load, service
from fakes.kind_load import report, stop

pytestmark = [pytest.mark.kind, pytest.mark.slow]
OUTAGE_SECONDS = float(os.environ.get("PENSTOCK_KIND_OUTAGE_SECONDS", "120"))


@pytest.mark.seconds(190)
def test_replicas_follow_a_step_up_before_the_slo_breaks_and_later_down(cluster: Cluster) -> None:
    with cluster.namespace("step") as namespace:
        cluster.apply(*deployment(namespace, replicas=2), service(namespace, spare=1))
        cluster.wait("two engines are ready", lambda: cluster.ready(namespace) == 2, namespace=namespace)
        # Half a request a second afterwards: a burst of it does not ask for what the step did.
        # What is reported begins with the step: the calm before it is no part of what is judged.
        cluster.apply(load(namespace, "2:45,5:60,0.5:120", "--warmup=45s"))
        began = time.monotonic()
        cluster.wait(
            "a replica is added", lambda: cluster.replicas(namespace) >= 3, namespace=namespace, seconds=110
        )
        time.sleep(max(0.0, began + 100 - time.monotonic()))
        assert cluster.replicas(namespace) >= 3
        cluster.wait(
            "replicas go down again",
            lambda: cluster.replicas(namespace) <= 2,
            namespace=namespace,
            seconds=100,
        )
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=90)
    assert measured["errors"] == {}, measured
    assert measured["period_seconds"] > 60, measured  # the whole of the step
    for objective in ("ttft_attained_ratio", "tpot_attained_ratio"):
        assert measured["slo"][objective] >= 0.95, measured


@pytest.mark.seconds(180)
def test_without_prometheus_it_holds_and_says_so_and_recovers(cluster: Cluster) -> None:
    with cluster.namespace("outage") as namespace:
        cluster.apply(*deployment(namespace, replicas=1), service(namespace, spare=1))
        cluster.apply(load(namespace, f"2:{60 + OUTAGE_SECONDS + 40:.0f}"))
        cluster.wait(
            "it has sized",
            lambda: cluster.ready(namespace) == cluster.replicas(namespace) >= 2,
            namespace=namespace,
            seconds=90,
        )
        cluster.kubectl("scale", "deploy/prometheus", "-n", MONITORING, "--replicas=0")
        gone = time.monotonic()
        try:
            cluster.wait(
                "it says that the query failed",
                lambda: cluster.condition(namespace, "MetricsAvailable").get("reason") == "QueryFailed",
                namespace=namespace,
                seconds=60,
            )
            assert cluster.status(namespace)["decision"]["reason"] == "MetricsMissing"
            held = cluster.replicas(namespace)
            cluster.stays(
                "held",
                lambda: cluster.replicas(namespace) == held,
                namespace=namespace,
                seconds=OUTAGE_SECONDS - (time.monotonic() - gone),
            )
        finally:
            cluster.kubectl("scale", "deploy/prometheus", "-n", MONITORING, "--replicas=1")
        cluster.wait(
            "metrics are available again",
            lambda: cluster.condition(namespace, "MetricsAvailable").get("status") == "True",
            namespace=namespace,
            seconds=60 + WINDOW_SECONDS,
        )
        assert cluster.replicas(namespace) >= 2


@pytest.mark.seconds(95)
def test_an_operator_killed_in_the_middle_of_a_scale_up_loses_nothing(cluster: Cluster) -> None:
    with cluster.namespace("killed") as namespace:
        cluster.apply(*deployment(namespace, replicas=1, startup_seconds=15), service(namespace))
        cluster.apply(load(namespace, "2:35,10:90"))
        cluster.wait(
            "it scales up", lambda: cluster.replicas(namespace) >= 3, namespace=namespace, seconds=110
        )
        target = cluster.replicas(namespace)
        assert cluster.ready(namespace) < target
        cluster.kubectl(
            "delete",
            "pods",
            "-n",
            SYSTEM,
            "-l",
            "app.kubernetes.io/name=penstock",
            "--grace-period=0",
            "--force",
        )
        cluster.stays(
            f"at least {target} replicas",
            lambda: cluster.replicas(namespace) >= target,
            namespace=namespace,
            seconds=40,
        )
        cluster.wait(
            "the started replicas are ready",
            lambda: cluster.ready(namespace) >= target,
            namespace=namespace,
            seconds=60,
        )
        cluster.wait(
            "the next operator decides",
            lambda: (
                cluster.kubectl("logs", "-n", SYSTEM, "deploy/penstock", check=False).stdout.count("leading")
                > 0
            ),
            namespace=namespace,
            seconds=60,
        )


def test_a_target_deleted_and_created_again_is_taken_up_again(cluster: Cluster) -> None:
    with cluster.namespace("recreated") as namespace:
        cluster.apply(*deployment(namespace, replicas=2), service(namespace, min=2))
        cluster.wait(
            "accepted",
            lambda: cluster.condition(namespace, "Accepted").get("status") == "True",
            namespace=namespace,
        )
        cluster.kubectl("delete", "deploy/chat", "-n", namespace)
        cluster.wait(
            "it says that the target is gone",
            lambda: cluster.condition(namespace, "Accepted").get("reason") == "TargetNotFound",
            namespace=namespace,
        )
        assert cluster.condition(namespace, "Ready")["status"] == "False"
        cluster.apply(*deployment(namespace, replicas=1))
        cluster.wait("it is at its minimum", lambda: cluster.replicas(namespace) == 2, namespace=namespace)
        cluster.wait(
            "ready again",
            lambda: cluster.condition(namespace, "Ready").get("status") == "True",
            namespace=namespace,
        )


def test_observe_writes_status_and_nothing_else(cluster: Cluster) -> None:
    with cluster.namespace("observed") as namespace:
        cluster.apply(*deployment(namespace, replicas=1), service(namespace, mode="Observe", min=3))
        cluster.wait(
            "it would have three",
            lambda: cluster.status(namespace).get("replicas", {}).get("desired") == 3,
            namespace=namespace,
        )
        before = cluster.get("deployment", "chat", namespace)["metadata"]["generation"]
        cluster.stays(
            "one replica", lambda: cluster.replicas(namespace) == 1, namespace=namespace, seconds=10
        )
        metadata = json.loads(
            cluster.kubectl(
                "get", "deploy/chat", "-n", namespace, "-o", "json", "--show-managed-fields"
            ).stdout
        )["metadata"]
        assert metadata["generation"] == before
        assert "penstock" not in {each["manager"] for each in metadata["managedFields"]}
        assert cluster.condition(namespace, "Ready")["reason"] == "Observing"


@pytest.mark.seconds(50)
def test_leaving_an_hpa_through_observe_is_no_jump(cluster: Cluster) -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "chat"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
            "minReplicas": 4,
            "maxReplicas": 5,
        },
    }

    def accepted(namespace: str, status: str, reason: str) -> bool:
        found = cluster.condition(namespace, "Accepted")
        return (found.get("status"), found.get("reason")) == (status, reason)

    with cluster.namespace("migrated") as namespace:
        hpa["metadata"] = {"name": "chat", "namespace": namespace}
        cluster.apply(*deployment(namespace, replicas=4), hpa, service(namespace, mode="Observe"))
        cluster.wait(
            "the HPA is named in Observe",
            lambda: accepted(namespace, "True", "OtherAutoscaler"),
            namespace=namespace,
        )
        cluster.apply(service(namespace, mode="Enforce"))
        cluster.wait(
            "Enforce is blocked",
            lambda: accepted(namespace, "False", "ConflictingAutoscaler"),
            namespace=namespace,
        )
        assert cluster.condition(namespace, "Accepted")["message"].startswith(
            "HorizontalPodAutoscaler/chat scales Deployment/chat too: delete it and Penstock takes over"
        )
        cluster.stays(
            "four replicas", lambda: cluster.replicas(namespace) == 4, namespace=namespace, seconds=20
        )
        cluster.kubectl("delete", "hpa", "chat", "-n", namespace)
        cluster.wait(
            "Penstock takes over", lambda: accepted(namespace, "True", "Accepted"), namespace=namespace
        )
        # No load, so one would do; but not before a whole scale-down window was watched.
        cluster.stays(
            "four replicas", lambda: cluster.replicas(namespace) == 4, namespace=namespace, seconds=10
        )
        cluster.wait(
            "it goes down", lambda: cluster.replicas(namespace) == 1, namespace=namespace, seconds=60
        )


@pytest.mark.seconds(60)
def test_no_scale_down_while_the_owner_rolls_out(cluster: Cluster) -> None:
    told = "{.spec.replicas} {.status.replicas} {.status.updatedReplicas} {.status.availableReplicas}{'\\n'}"
    with cluster.namespace("rollout") as namespace:
        cluster.apply(*deployment(namespace, replicas=3, startup_seconds=12), service(namespace, min=3))
        cluster.wait("three are ready", lambda: cluster.ready(namespace) == 3, namespace=namespace)
        with cluster.watched("deployment", "chat", namespace, told) as lines:
            cluster.kubectl("set", "env", "deploy/chat", "-n", namespace, "VERSION=2")
            cluster.apply(service(namespace, min=1))
            cluster.wait(
                "it goes down", lambda: cluster.replicas(namespace) == 1, namespace=namespace, seconds=200
            )
            history = lines.read_text().splitlines()
    fewer = next(number for number, line in enumerate(history) if line.startswith("1 "))
    assert any(line.split()[1] == "4" for line in history[:fewer]), history  # a pod more while it rolls
    assert history[fewer - 1] == "3 3 3 3", history  # three new pods serve, no old one is left
