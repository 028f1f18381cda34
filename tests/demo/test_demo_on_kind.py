"""The demo's view of a cluster that exists: its pods, its operator, and the workload that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.sandbox.demo.cluster import DemoError
from penstock.sandbox.demo.commentary import PodCounts
from penstock.sandbox.demo.kind_cluster import KindCluster, OperatorPod, _access, _real_workload
from penstock.sandbox.demo.manifests import deployments
from penstock.sandbox.demo.scene import quick_scene


def pod(label: str, value: str, *, ready: str = "True", ending: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {label: value}}
    if ending:
        metadata["deletionTimestamp"] = ending
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def engine(*, ready: str = "True", ending: str = "") -> dict[str, Any]:
    return pod("app", "chat", ready=ready, ending=ending)


@pytest.fixture
def cluster(tmp_path: Path) -> KindCluster:
    return KindCluster(tmp_path, quick_scene(), lambda *_: None, tmp_path / "kubeconfig")


@pytest.fixture
def operator(cluster: KindCluster, tmp_path: Path) -> OperatorPod:
    return OperatorPod(tmp_path / "kubeconfig", "", tmp_path / "log", quick_scene(), cluster=cluster)


def test_only_the_workloads_pods_count_each_once(cluster: KindCluster) -> None:
    cluster.seen = {
        "a": engine(),
        "b": engine(ready="False"),
        "c": engine(ending="2026-01-01T00:00:00Z"),  # still Ready while it drains
        "d": {"metadata": {"labels": {"app": "chat"}}},  # not scheduled yet
        "penstock-1": pod("app.kubernetes.io/name", "penstock"),
        "bare": {"metadata": {}},
    }
    assert cluster.pods(3) == PodCounts(target=3, ready=1, starting=2, draining=1)


def test_the_first_replica_and_the_urls_of_the_ready_ones_are_known(cluster: KindCluster) -> None:
    cluster.seen = {"a": engine(ready="False")}
    assert not cluster.is_ready
    cluster.seen = {"a": engine()}
    assert cluster.is_ready
    cluster.urls_file.write_text("http://10.0.0.1:8000\nhttp://10.0.0.2:8000\n")
    assert cluster.engine_urls() == ("http://10.0.0.1:8000", "http://10.0.0.2:8000")


def test_the_lease_is_looked_for_at_the_present_operator(cluster: KindCluster, operator: OperatorPod) -> None:
    assert not operator.running
    cluster.seen = {"penstock-old": pod("app.kubernetes.io/name", "penstock"), "a": engine()}
    assert operator.running
    assert "penstock-old-1".endswith(operator.lease_suffix)
    operator._killed.add("penstock-old")
    assert not operator.running
    assert not "penstock-old-1".endswith(operator.lease_suffix)
    cluster.seen["penstock-new"] = pod("app.kubernetes.io/name", "penstock", ready="False")
    assert "penstock-new-1".endswith(operator.lease_suffix)


def test_an_operator_that_was_not_started_cannot_be_killed(operator: OperatorPod) -> None:
    with pytest.raises(DemoError, match="the operator was never started"):
        operator.kill()


def test_the_workload_is_scraped_probed_and_restricted_and_the_scene_stays_as_it_is() -> None:
    scene = quick_scene()
    (before,) = deployments(scene)
    body = _real_workload(before, scene)
    assert [before] == list(deployments(scene))
    assert body["spec"]["selector"] == before["spec"]["selector"]
    template = body["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
    }
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    (container,) = template["spec"]["containers"]
    assert container["image"] == "penstock:dev"
    assert container["args"][-4:] == [
        "--host=0.0.0.0",
        "--port=8000",
        "--startup-delay=4s",
        "--drain-timeout=25s",
    ]
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": 8000}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "clusters: []",
        "clusters: [{cluster: {server: 'https://x', certificate-authority-data: '!'}}]\nusers: [{user: {}}]",
        "a: [",
    ],
)
def test_another_kubeconfig_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(DemoError, match="kubeconfig is not a kubeconfig as kind writes it"):
        _access(path, tmp_path)
