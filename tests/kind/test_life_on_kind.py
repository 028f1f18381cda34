"""Installed with Helm on a real cluster: refusals, permissions, neighbours, uninstalling."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from fakes.kind_cluster import SYSTEM, Cluster, deployment, service

pytestmark = [pytest.mark.kind, pytest.mark.slow]


def changed(**parts: Any) -> dict[str, Any]:
    body = copy.deepcopy(service("default"))
    body["spec"] |= parts
    return body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (changed(slo={}), "state at least one latency objective, for example ttft: {p95: 500ms}"),
        (
            changed(slo={"ttft": {"p95": "0.5s"}}),
            "write a duration from 1ms to 10m without decimals, for example 500ms, 2s or 1m30s",
        ),
        (
            changed(slo={"ttft": {"p50": "2s", "p95": "1s"}}),
            "a higher percentile cannot be faster than a lower one: p50 <= p90 <= p95 <= p99",
        ),
        (
            changed(replicas={"min": 0}),
            "spec.replicas.min: Invalid value: 0: "
            "spec.replicas.min in body should be greater than or equal to 1",
        ),
        (
            changed(mode="Scale"),
            'spec.mode: Unsupported value: "Scale": supported values: "Observe", "Enforce", "Paused"',
        ),
    ],
    ids=["no objective", "a decimal duration", "percentiles that fall", "no replica", "an unknown mode"],
)
def test_a_bad_resource_is_refused_with_what_to_write_instead(
    cluster: Cluster, body: dict[str, Any], message: str
) -> None:
    done = cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(body), check=False)
    assert done.returncode == 1
    assert message in done.stderr


def test_the_operator_may_do_what_it_needs_and_no_more(cluster: Cluster) -> None:
    def may(*words: str) -> bool:
        account = f"--as=system:serviceaccount:{SYSTEM}:penstock"
        return (
            cluster.kubectl("auth", "can-i", *words, account, "-n", "default", check=False).stdout.strip()
            == "yes"
        )

    allowed = [
        ("patch", "deployments.apps", "--subresource=scale"),
        ("patch", "inferenceservices.serving.penstock.dev", "--subresource=status"),
        ("create", "events.events.k8s.io"),
        ("list", "pods"),
    ]
    refused = [
        ("get", "secrets"),
        ("patch", "statefulsets"),  # Deployments it may own here: manifests/kind/values.yaml
        ("delete", "pods"),
        ("patch", "inferenceservices.serving.penstock.dev"),
        ("create", "pods", "--subresource=exec"),
    ]
    assert [words for words in allowed if not may(*words)] == []
    assert [words for words in refused if may(*words)] == []
    logs = cluster.kubectl("logs", "-n", SYSTEM, "deploy/penstock").stdout.splitlines()
    # A namespace that is being deleted takes no Events; that is no missing permission.
    assert [line for line in logs if "orbidden" in line and "being terminated" not in line] == []


def test_beside_kserve_the_plain_name_is_still_kserves(cluster: Cluster) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "inferenceservices.serving.kserve.io"},
        "spec": {
            "group": "serving.kserve.io",
            "scope": "Namespaced",
            "names": {
                "kind": "InferenceService",
                "listKind": "InferenceServiceList",
                "plural": "inferenceservices",
                "singular": "inferenceservice",
                "shortNames": ["isvc"],
            },
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                    },
                }
            ],
        },
    }
    theirs = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "theirs"},
    }
    with cluster.namespace("kserve") as namespace:
        cluster.apply(crd)
        try:
            cluster.kubectl(
                "wait",
                "--for=condition=Established",
                "crd/inferenceservices.serving.kserve.io",
                "--timeout=30s",
            )
            cluster.apply(theirs | {"metadata": {"name": "theirs", "namespace": namespace}})
            cluster.apply(service(namespace, mode="Observe"))

            def listed(kind: str) -> str:
                return cluster.kubectl("get", kind, "-n", namespace, "-o", "name").stdout

            cluster.wait("kubectl knows both", lambda: "theirs" in listed("isvc"), namespace=namespace)
            assert listed("inferenceservices") == "inferenceservice.serving.kserve.io/theirs\n"
            assert listed("psvc") == "inferenceservice.serving.penstock.dev/chat\n"
        finally:
            cluster.kubectl("delete", "crd", "inferenceservices.serving.kserve.io")


def test_uninstalling_leaves_the_workload_running_and_no_finalizer(cluster: Cluster) -> None:
    with cluster.namespace("uninstalled") as namespace:
        cluster.apply(*deployment(namespace, replicas=2), service(namespace, min=2))
        cluster.wait(
            "it is at work",
            lambda: cluster.condition(namespace, "Ready").get("status") == "True",
            namespace=namespace,
        )
        cluster.wait("two engines are ready", lambda: cluster.ready(namespace) == 2, namespace=namespace)
        cluster.run("helm", "uninstall", "penstock", "-n", SYSTEM, "--wait")
        try:
            for kind in ("psvc", "deployment"):
                assert "finalizers" not in cluster.get(kind, "chat", namespace)["metadata"]
            assert (cluster.replicas(namespace), cluster.ready(namespace)) == (2, 2)
            # Nothing of ours is left that could refuse or delay a deletion.
            cluster.kubectl("delete", "psvc", "chat", "-n", namespace, "--timeout=10s")
            assert cluster.ready(namespace) == 2
        finally:
            cluster.install()
