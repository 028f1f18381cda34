"""Bad values are refused with a sentence that says what to write, and every value has a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "charts" / "penstock"

URL = "prometheus.url=http://prometheus.monitoring:9090"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "prometheus.url: give the base URL of Prometheus"),
        (["prometheus.url=prometheus:9090"], "prometheus"),
        ([URL, "prometheus.uri=x"], "uri"),
        ([URL, "prometheus.matchers.le=1"], "le"),
        ([URL, "prometheus.matchers.cluster="], "cluster"),
        ([URL, "replicaCount=2"], "replicaCount"),
        ([URL, "identity=node"], "identity"),
        ([URL, "tickSeconds=0"], "tickSeconds"),
        (
            [URL, "rbac.scope=namespaces"],
            "rbac.namespaces: name at least one namespace, or set rbac.scope to cluster",
        ),
        (
            [URL, "prometheus.bearerTokenFile=/a", "prometheus.bearerTokenSecret.name=b"],
            "prometheus.bearerTokenSecret and prometheus.bearerTokenFile: give one of them",
        ),
        (
            [URL, "prometheus.tls.caSecret.name=a", "prometheus.tls.caConfigMap.name=b"],
            "prometheus.tls.caConfigMap and prometheus.tls.caSecret: give one of them",
        ),
        (
            [URL, "prometheus.scrapeIntervalSeconds=30"],
            "prometheus.rateWindowSeconds: must be at least 4 scrape intervals, 120",
        ),
        ([URL, "recording.limitMiB=8"], "limitMiB"),
        ([URL, "recording.volume.name=x"], "invalid propertyName 'name'"),
        ([URL, "gateway.scope=pod"], "gateway"),
        ([URL, "gateway.replicas=0"], "replicas"),
        ([URL, "gateway.networkPolicy.from[0].pods=x"], "pods"),
        ([URL, "gateway.pod.containers[0].name=x"], "containers"),
        (
            [URL, "serviceAccount.create=false"],
            "serviceAccount.name: needed when serviceAccount.create is false",
        ),
    ],
)
def test_bad_values_are_refused(refuse: Callable[..., str], values: list[str], sentence: str) -> None:
    assert sentence in refuse(*values)


def properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, each in schema.get("properties", {}).items():
        yield f"{path}{name}", each
        yield from properties(each, f"{path}{name}.")


def keys(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, each in values.items():
        yield f"{path}{name}"
        if isinstance(each, dict):
            yield from keys(each, f"{path}{name}.")


def test_schema_and_values_name_the_same_keys() -> None:
    schema = dict(properties(json.loads((CHART / "values.schema.json").read_text())))
    values = set(keys(yaml.safe_load((CHART / "values.yaml").read_text())))
    # As in pods: the API server checks it.
    resources = {"resources", "gateway.resources", "gateway.agentResources"}
    free = resources | {"podSecurityContext", "gateway.podSecurityContext", "gateway.pod"}
    named = {each for each in values if not any(each.startswith(f"{name}.") for name in free)}
    assert set(schema) - {"global"} == named


def test_every_key_is_described_and_no_object_takes_unknown_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["additionalProperties"] is False
    for path, each in properties(schema):
        assert each["description"], path
        if "properties" in each:
            assert each["additionalProperties"] is False, path


def test_the_chart_lints_clean(helm_run: Callable[..., Any]) -> None:
    done = helm_run("lint", "--strict", "--set", URL, str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout
