"""The CRD on a real kube-apiserver: nothing is dropped, defaults are the parser's, refusals can be read."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.schema_walk import REPOSITORY, defaulted, least, root, sample
from penstock.model.parse import parse_service
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVICES = "/apis/serving.penstock.dev/v1alpha1/namespaces/default/inferenceservices"
# What the API server adds to every object.
ADDED = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace")


def normalised(body: dict[str, Any]) -> str:
    """`body` without what the server adds, as canonical bytes."""
    body = copy.deepcopy(body)
    for name in ADDED:
        body["metadata"].pop(name, None)
    return json.dumps(body, sort_keys=True, indent=1)


def test_the_definition_round_trips_byte_equal(apiserver: ApiServer, crd: dict[str, Any]) -> None:
    status, stored = apiserver.request("GET", f"{DEFINITIONS}/{crd['metadata']['name']}")
    assert status == 200
    del stored["status"]
    assert normalised(stored) == normalised(crd)


def test_the_definition_is_established_without_complaint(apiserver: ApiServer, crd: dict[str, Any]) -> None:
    _, stored = apiserver.request("GET", f"{DEFINITIONS}/{crd['metadata']['name']}")
    conditions = {each["type"]: each["status"] for each in stored["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("name", ["named", "inline", "request-response"])
def test_a_complete_resource_round_trips_byte_equal(apiserver: ApiServer, name: str) -> None:
    body = sample(name)
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All&fieldValidation=Strict", body)
    assert status == 201, stored
    assert normalised(stored) == normalised(body)


SHIPPED = [
    pytest.param(body, id=f"{file.name}-{body['metadata']['name']}")
    for file in sorted((REPOSITORY / "manifests" / "samples").glob("*.yaml"))
    for body in yaml.safe_load_all(file.read_text())
    if body["kind"] == "InferenceService"
]


@pytest.mark.parametrize("shipped", SHIPPED)
def test_a_shipped_sample_is_stored_with_defaults_and_nothing_else(
    apiserver: ApiServer, shipped: dict[str, Any]
) -> None:
    body = shipped | {"metadata": {"name": shipped["metadata"]["name"]}}
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All&fieldValidation=Strict", body)
    assert status == 201, stored
    assert normalised(stored) == normalised(defaulted(body, root()))


def test_eight_classes_of_the_longest_names_are_within_the_cost_limit(apiserver: ApiServer) -> None:
    """CEL has a budget at run time too: a resource that is large in every list must not exceed it."""
    names = [f"c{index}".ljust(63, "x") for index in range(8)]
    entries = [{"name": name, "priority": priority} for priority, name in enumerate(names)]
    body = least(
        slo={"ttft": {"p95": "1s"}, "classes": names},
        admission={"classHeader": "x" * 64, "defaultClass": names[-1], "classes": entries},
        fallback={"backendRef": {"name": "a" * 63}, "classes": names},
    )
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
    assert status == 201, stored


def test_the_least_resource_is_stored_as_the_parser_reads_it(apiserver: ApiServer) -> None:
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", least())
    assert status == 201
    assert parse_service(stored | {"metadata": {"name": "chat"}}) == parse_service(least())
    assert stored["spec"] == {
        "mode": "Enforce",
        "workload": {"type": "Target", "targetRef": {"group": "apps", "kind": "Deployment", "name": "chat"}},
        "slo": {"ttft": {"p95": "500ms"}, "availabilityPercent": "99.5", "windowDays": 28},
        "engine": {"type": "VLLM", "profile": {"type": "Learned"}, "maxConcurrency": 256},
        "replicas": {"min": 1, "max": 10, "spare": 0, "initialStartup": "2m", "scaleDownWindow": "5m"},
        "admission": {"mode": "Enforce", "policy": "Auto"},
        "routing": {"type": "None"},
    }


def test_printer_columns_show_what_the_readme_shows(apiserver: ApiServer, tmp_path: Path) -> None:
    body = least() | {"metadata": {"name": "columns"}}
    apiserver.request("POST", SERVICES, body)
    status = {
        "replicas": {"current": 4, "ready": 4, "desired": 5, "summary": "4/5"},
        "load": {"arrivalRate": "17.2", "utilizationPercent": 78, "ttftP95": "310ms", "tpotP95": "27ms"},
        "admission": {"maxInFlight": 392, "shedPercent": 3},
        "fallback": {"backend": "chat-small", "percent": 12},
        "canary": {"phase": "Testing", "weightPercent": 20, "summary": "Testing 20%"},
        "decision": {"reason": "LatencyObjective", "message": "5 replicas", "time": "2026-01-01T00:00:00Z"},
        "budgetRemainingPercent": 93,
    }
    apiserver.request(
        "PATCH",
        f"{SERVICES}/columns/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    request_table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    code, table = apiserver.request("GET", f"{SERVICES}/columns", accept=request_table)
    apiserver.request("DELETE", f"{SERVICES}/columns")
    assert code == 200
    shown = dict(
        zip((each["name"] for each in table["columnDefinitions"]), table["rows"][0]["cells"], strict=True)
    )
    shown.pop("Age")
    assert shown == {
        "Name": "columns",
        "Replicas": "4/5",
        "Util%": 78,
        "TTFT p95": "310ms",
        "TPOT p95": "27ms",
        "Shed%": 3,
        "Fallback%": 12,
        "Canary": "Testing 20%",
        "Reason": "LatencyObjective",
        "Mode": "Enforce",
        "Target": "chat",
        "Budget%": 93,
    }
    wide = {each["name"] for each in table["columnDefinitions"] if each["priority"]}
    assert {"Mode", "Target", "Budget%"} <= wide
