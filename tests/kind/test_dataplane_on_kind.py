"""Gateways on a real cluster: Envoy, kube-proxy, rollouts and HTTPRoutes are real, engines stand in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.gateway_api import a_route, a_rule, gateway_api_directory
from fakes.kind_cluster import SYSTEM, Cluster, deployment, service
from fakes.kind_load import loaded, report, stop

pytestmark = [pytest.mark.kind, pytest.mark.slow]
ENVOY = {"type": "Envoy", "balancer": "LeastRequests"}


def routed(namespace: str, *, routing: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return the InferenceService `chat` behind gateways, with other fields of its spec."""
    body = service(namespace, **spec.pop("replicas", {"min": 1, "max": 1}))
    body["spec"] |= {"routing": ENVOY if routing is None else routing} | spec
    return body


def failures(cluster: Cluster, namespace: str) -> list[str]:
    """Return why requests failed, as the gateways count it: what a 503 alone does not tell."""
    told = re.compile(
        r"^envoy_cluster_(?:\w*(?:none_healthy|overflow|connect_fail|connect_timeout|rx_reset|destroy_remote_with"
        r"_active_rq|ejections_total|retry|upstream_rq)|upstream_rq_xx)\{.*\} [1-9].*$",
        re.MULTILINE,
    )
    return [line for stats in gateway_stats(cluster, namespace) for line in told.findall(stats)]


def gateway_stats(cluster: Cluster, namespace: str) -> list[str]:
    """Return the statistics of each gateway pod, as Prometheus would read them."""
    pods = cluster.kubectl("get", "pods", "-n", namespace, "-o", "name").stdout.split()
    names = [each.removeprefix("pod/") for each in pods if each.startswith("pod/penstock-gateway-")]
    paths = [f"/api/v1/namespaces/{namespace}/pods/{each}:9902/proxy/stats/prometheus" for each in names]
    return [cluster.kubectl("get", "--raw", path, check=False).stdout for path in paths]


def gateways_have_one_engine(cluster: Cluster, namespace: str) -> bool:
    """Whether both gateways know of one engine, and that it serves; one that is gone is forgotten."""
    wanted = [
        f'envoy_cluster_membership_{kind}{{envoy_cluster_name="{namespace}_chat"}} 1'
        for kind in ("total", "healthy")
    ]
    shown = gateway_stats(cluster, namespace)
    return len(shown) == 2 and all(each in stats.splitlines() for stats in shown for each in wanted)


def wait_for_gateways(cluster: Cluster, namespace: str) -> None:
    """Wait until two gateway pods serve the route and all engines are there."""

    def served() -> bool:
        found = cluster.kubectl(
            *("get", "deployment", "penstock-gateway", "-n", namespace, "-o", "json"), check=False
        )
        if found.returncode:
            return False
        status = json.loads(found.stdout)["status"]
        return status.get("readyReplicas") == status.get("updatedReplicas") == 2

    cluster.wait("two gateway pods are ready", served, namespace=namespace, seconds=120)
    cluster.wait(
        "all engines are ready",
        lambda: cluster.ready(namespace) == cluster.replicas(namespace),
        namespace=namespace,
    )
    cluster.wait(
        "the service is ready",
        lambda: cluster.condition(namespace, "Ready").get("status") == "True",
        namespace=namespace,
    )


def served_by(cluster: Cluster, namespace: str, app: str) -> float:
    """Return how many requests the engines of an app have finished, as their own metrics say."""
    names = cluster.kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "name").stdout.split()
    total = 0.0
    for name in names:
        path = f"/api/v1/namespaces/{namespace}/pods/{name.removeprefix('pod/')}:8000/proxy/metrics"
        text = cluster.kubectl("get", "--raw", path).stdout
        found = re.findall(r"^vllm:request_success_total\{[^}]*\} ([0-9.e+]+)$", text, flags=re.MULTILINE)
        total += sum(map(float, found))
    return total


@pytest.fixture
def restricted(cluster: Cluster) -> Iterator[str]:
    """A namespace that refuses pods which are not restricted: gateway pods must be."""
    with cluster.namespace("gateway") as namespace:
        label = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", namespace, label)
        yield namespace


@pytest.mark.seconds(100)
def test_overload_is_answered_with_429_and_the_admitted_keep_their_objective(
    cluster: Cluster, restricted: str
) -> None:
    cluster.apply(*deployment(restricted, replicas=1), routed(restricted))
    wait_for_gateways(cluster, restricted)
    # Nothing is limited before the lengths of requests are known: overload may come after that.
    cluster.apply(loaded(restricted, "2:240", name="calm"))
    cluster.wait(
        "the limit is known",
        lambda: bool(cluster.status(restricted).get("admission", {}).get("maxInFlight")),
        namespace=restricted,
        seconds=100,
    )
    cluster.apply(loaded(restricted, "15:60"))
    cluster.wait(
        "it says that it limits",
        lambda: cluster.condition(restricted, "AdmissionLimited").get("status") == "True",
        namespace=restricted,
        seconds=100,
    )
    limit = cluster.status(restricted)["admission"]["maxInFlight"]
    measured = report(cluster, restricted, seconds=150)
    assert set(measured["errors"]) == {"http 429"}, measured
    assert measured["errors"]["http 429"] > 0.3 * measured["requests"]["due"], measured
    assert measured["ttft_seconds"]["p95"] <= 1.0, measured
    assert measured["tpot_seconds"]["p95"] <= 0.06, measured
    # The stand-in runs 8 at once; what may wait beside them must be little.
    assert 4 <= limit <= 16


@pytest.mark.seconds(95)
def test_the_excess_spills_to_a_second_service(cluster: Cluster) -> None:
    with cluster.namespace("spill") as namespace:
        small = json.loads(json.dumps(deployment(namespace, replicas=1)).replace('"chat"', '"small"'))
        fallback = {
            "backendRef": {"kind": "Service", "name": "small", "port": 8000, "maxInFlight": 8},
            "maxPercent": 80,
        }
        cluster.apply(*deployment(namespace, replicas=1), *small, routed(namespace, fallback=fallback))
        wait_for_gateways(cluster, namespace)
        before = served_by(cluster, namespace, "small")
        cluster.apply(loaded(namespace, "2:20,10:60"))
        cluster.wait(
            "it says that the fallback serves",
            lambda: cluster.condition(namespace, "FallbackActive").get("status") == "True",
            namespace=namespace,
            seconds=100,
        )
        measured = report(cluster, namespace, seconds=150)
        spilled = served_by(cluster, namespace, "small") - before
    assert set(measured["errors"]) <= {"http 429"}, measured
    assert spilled > 0.15 * measured["requests"]["completed"], measured


@pytest.mark.seconds(100)
def test_a_scale_down_cuts_no_stream(cluster: Cluster) -> None:
    with cluster.namespace("drain") as namespace:
        plan = routed(namespace, replicas={"min": 1, "max": 4, "scaleDownWindow": "10s"})
        cluster.apply(*deployment(namespace, replicas=4), plan)
        wait_for_gateways(cluster, namespace)
        cluster.apply(loaded(namespace, "1:120", tokens=150))
        cluster.wait(
            "fewer replicas", lambda: cluster.replicas(namespace) <= 2, namespace=namespace, seconds=110
        )

        def gone() -> bool:
            pods = cluster.kubectl("get", "pods", "-n", namespace, "-l", "app=chat", "-o", "name").stdout
            return len(pods.split()) == cluster.replicas(namespace)

        cluster.wait("those drained are gone", gone, namespace=namespace, seconds=60)
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=150)
        why = failures(cluster, namespace) if measured["errors"] else []
    assert measured["errors"] == {}, (measured, why)
    assert measured["requests"]["completed"] == measured["requests"]["due"] > 20, measured


@pytest.mark.seconds(90)
def test_gateways_that_are_replaced_and_a_service_that_is_deleted_cut_no_stream(cluster: Cluster) -> None:
    with cluster.namespace("replaced") as namespace:
        cluster.apply(*deployment(namespace, replicas=2), routed(namespace, replicas={"min": 2, "max": 2}))
        wait_for_gateways(cluster, namespace)
        cluster.apply(loaded(namespace, "2:90", tokens=100))
        cluster.kubectl("rollout", "restart", "deployment/penstock-gateway", "-n", namespace)
        cluster.kubectl("rollout", "status", "deployment/penstock-gateway", "-n", namespace, "--timeout=60s")
        cluster.kubectl("delete", "psvc", "chat", "-n", namespace)

        def handed_back() -> bool:
            selector = cluster.get("service", "chat-penstock", namespace)["spec"]["selector"]
            return bool(selector == {"app": "chat"})

        cluster.wait("the Service selects the engines", handed_back, namespace=namespace, seconds=30)

        def gateways_are_gone() -> bool:
            return "penstock-gateway" not in cluster.kubectl("get", "pods", "-n", namespace).stdout

        cluster.wait("the gateways have drained", gateways_are_gone, namespace=namespace, seconds=90)
        stop(cluster, namespace)
        measured = report(cluster, namespace, seconds=90)
        left = cluster.kubectl("get", "deployments", "-n", namespace, "-o", "name").stdout.split()
    assert measured["errors"] == {}, measured
    assert left == ["deployment.apps/chat"]


@pytest.mark.seconds(55)
def test_a_gateway_born_while_the_operator_is_down_serves(cluster: Cluster) -> None:
    with cluster.namespace("orphan") as namespace:
        cluster.apply(*deployment(namespace, replicas=1), routed(namespace))
        wait_for_gateways(cluster, namespace)
        cluster.kubectl("scale", "deployment/penstock", "-n", SYSTEM, "--replicas=0")
        try:
            cluster.kubectl(
                "wait", "--for=delete", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=penstock",
                "--timeout=60s",
            )  # fmt: skip
            gateways = ("pods", "-n", namespace, "-l", "app.kubernetes.io/name=penstock-gateway")
            cluster.kubectl("delete", *gateways, "--grace-period=0", "--force")
            cluster.kubectl("delete", "pods", "-n", namespace, "-l", "app=chat", "--wait=false")
            cluster.kubectl("wait", "--for=condition=Ready", *gateways, "--timeout=90s")
            # The agent looks for endpoints every two seconds.
            cluster.wait(
                "the gateways have the other engine",
                lambda: gateways_have_one_engine(cluster, namespace),
                namespace=namespace,
            )
            cluster.apply(loaded(namespace, "2:20"))
            measured = report(cluster, namespace, seconds=90)
        finally:
            cluster.kubectl("scale", "deployment/penstock", "-n", SYSTEM, "--replicas=1")
            cluster.kubectl("rollout", "status", "deployment/penstock", "-n", SYSTEM, "--timeout=90s")
    assert measured["errors"] == {}, measured


@pytest.mark.seconds(40)
def test_a_planned_share_becomes_weights_of_the_named_rule(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "-f", str(gateway_api_directory()))
    with cluster.namespace("weights") as namespace:
        rules = [a_rule("other", chat=1, small=1), a_rule("main", chat=1, small=0)]
        route = a_route(*rules, namespace=namespace)
        small = json.loads(json.dumps(deployment(namespace, replicas=1)).replace('"chat"', '"small"'))
        fallback = {
            "backendRef": {"kind": "Service", "name": "small", "port": 8000, "maxInFlight": 64},
            "maxPercent": 60,
        }
        by_route = {"type": "GatewayAPI", "gatewayAPI": {"httpRouteRef": {"name": "chat", "rule": "main"}}}
        chat = routed(namespace, routing=by_route, fallback=fallback)
        cluster.apply(*deployment(namespace, replicas=1), *small, route, chat)
        cluster.apply(loaded(namespace, "2:20,10:90", url="http://chat:8000"))

        def weights(rule: int) -> list[int]:
            refs = cluster.get("httproute", "chat", namespace)["spec"]["rules"][rule]["backendRefs"]
            return [each["weight"] for each in refs]

        cluster.wait(
            "a share is planned",
            lambda: weights(1)[1] >= 10 and sum(weights(1)) == 100,
            namespace=namespace,
            seconds=100,
        )
        assert weights(1)[1] <= 60
        assert weights(0) == [1, 1]
        limited = cluster.condition(namespace, "AdmissionLimited")
        assert "an HTTPRoute cannot limit requests in flight" in limited["message"], limited
        assert "--max-num-seqs" in limited["message"], limited
