"""What is wrong with a canary or an owned workload, in the words of the API server and in the parser's."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.refusal import SERVICES, Refusal
from fakes.schema_walk import get, least, sample
from penstock.model.parse import parse_service
from penstock.model.references import TargetRef
from penstock.model.revision import owned_target, template_revision
from penstock.sandbox.apiserver import ApiServer

pytestmark = pytest.mark.api

TEMPLATE: dict[str, Any] = {"spec": {"containers": [{"name": "engine", "image": "registry.example/vllm:1"}]}}
COUNTERS = {"name": "refusals", "type": "Counters", "bad": "refusals_total", "total": "answers_total"}
THRESHOLD = {"name": "accuracy", "type": "Threshold", "query": "judge_score", "atLeast": "0.85"}


def tried(**canary: object) -> dict[str, Any]:
    """A resource with an adopted canary."""
    return least(canary={"targetRef": {"name": "chat-canary"}} | canary)


def owned(workload: object = None, **spec: object) -> dict[str, Any]:
    """A resource with a pod template."""
    return least(workload=workload or {"type": "Template", "template": TEMPLATE}, **spec)


def refused(
    body: dict[str, Any], where: str, cause: str, fix: str, *, value: str = "object", parser: str = ""
) -> Refusal:
    """A refusal whose cause and fix both say alike; `parser` replaces them where it can tell more."""
    said = parser or f"{cause}: {fix}"
    return Refusal(body, where, value, f"{cause}: {fix}", f"{where}: {said}")


CANARIES = {
    "the stable workload as its own canary": refused(
        tried(targetRef={"name": "chat"}),
        "spec.canary.targetRef",
        "the canary is the workload itself",
        "name another workload, or remove canary",
    ),
    "an adopted canary without a workload": refused(
        least(canary={}),
        "spec.canary.targetRef",
        "a canary beside a Target needs a targetRef",
        "name the second workload, for example targetRef: {name: chat-canary}",
    ),
    "a workload for the canary of a template": refused(
        owned(canary={"targetRef": {"name": "chat-canary"}}),
        "spec.canary.targetRef",
        "with workload.type Template a changed template is the canary",
        "remove targetRef",
    ),
    "steps that fall": refused(
        tried(stepPercents=[5, 50, 20]),
        "spec.canary.stepPercents",
        "steps must rise",
        "write them in order, for example [5, 20, 50]",
        value="array",
    ),
}
CHECKS = {
    "counters without a total": refused(
        tried(checks=[{"name": "refusals", "type": "Counters", "bad": "refusals_total"}]),
        "spec.canary.checks[0]",
        "type Counters needs bad and total",
        'write two counters, for example bad: refusals_total{pod=~"$arm_pods"}',
    ),
    "a threshold without a bound": refused(
        tried(checks=[{"name": "accuracy", "type": "Threshold", "query": "judge_score"}]),
        "spec.canary.checks[0]",
        "type Threshold needs query and atMost or atLeast",
        "write a query of one number and what it may be",
    ),
    "a threshold with counters": refused(
        tried(checks=[THRESHOLD | {"bad": "refusals_total"}]),
        "spec.canary.checks[0]",
        "bad and total apply with type Counters only",
        "remove them, or set type: Counters",
    ),
    "counters with a bound": refused(
        tried(checks=[COUNTERS | {"atMost": "1"}]),
        "spec.canary.checks[0]",
        "query, atMost and atLeast apply with type Threshold only",
        "remove them, or set type: Threshold",
    ),
}
WORKLOADS = {
    "a template without one": refused(
        owned({"type": "Template"}),
        "spec.workload.template",
        "type Template needs a template",
        "write the pod template, for example template: {spec: {containers: [{name: engine, image: ...}]}}",
        parser="missing: write the pod template, for example template: {spec: {containers: [{name: engine, "
        "image: ...}]}}",
    ),
    "a template beside a target": refused(
        owned({"type": "Target", "targetRef": {"name": "chat"}, "template": TEMPLATE}),
        "spec.workload.template",
        "template applies with type Template only",
        "remove it, or set type: Template",
    ),
    "a target beside a template": refused(
        owned({"type": "Template", "targetRef": {"name": "chat"}, "template": TEMPLATE}),
        "spec.workload.targetRef",
        "targetRef applies with type Target only",
        "remove it, or set type: Target",
    ),
}
REFUSALS = CANARIES | CHECKS | WORKLOADS


@pytest.mark.parametrize("bad", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_bad_canary_is_refused_with_advice(apiserver: ApiServer, bad: Refusal) -> None:
    assert bad.by_api_server(apiserver) == bad.expected
    assert bad.by_parser() == bad.parser


@pytest.mark.parametrize(
    "canary",
    [
        {"stepPercents": [5, 5]},
        {"stepPercents": []},
        {"stepPercents": [0]},
        {"stepPercents": [51]},
        {"stepPercents": list(range(1, 10))},
        {"checks": [COUNTERS, COUNTERS]},
        {"checks": [COUNTERS | {"name": "ttft"}]},
        {"checks": [COUNTERS | {"bad": ""}]},
        {"checks": [THRESHOLD | {"atLeast": "1e3"}]},
        {"maxDuration": "4m"},
        {"stickyHeader": "x-envoy-session"},
        {"mode": "Paused"},
        {"onInsufficientEvidence": "Wait"},
    ],
)
def test_both_refuse(apiserver: ApiServer, canary: dict[str, Any]) -> None:
    bad = Refusal(tried(**canary), "", "", "", "")
    assert bad.by_api_server(apiserver)
    assert bad.by_parser()


@pytest.mark.parametrize("containers", [[], [{}], [{"name": "a"}, {"name": "a"}], [{"name": "A"}], None])
def test_both_refuse_a_pod_without_proper_containers(apiserver: ApiServer, containers: object) -> None:
    template = {"spec": {"containers": containers}}
    bad = Refusal(owned({"type": "Template", "template": template}), "", "", "", "")
    status, answer = apiserver.request("POST", f"{SERVICES}?dryRun=All", bad.body)
    assert status == 422, answer
    assert bad.by_parser()


@pytest.mark.parametrize("words", [["app"], "app=chat", 7, {"replicas": 2}, {"app": True}, {"app": {}}])
@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_both_refuse_words_of_a_pod_that_are_no_strings(
    apiserver: ApiServer, kind: str, words: object
) -> None:
    template = TEMPLATE | {"metadata": {kind: words}}
    bad = Refusal(owned({"type": "Template", "template": template}), "", "", "", "")
    assert f"spec.workload.template.metadata.{kind}" in bad.by_api_server(apiserver)
    assert bad.by_parser().startswith(f"spec.workload.template.metadata.{kind}")


@pytest.mark.parametrize("metadata", [{"labels": None}, {"labels": {}}, {"annotations": {"at": None}}])
def test_words_of_a_pod_that_are_null_mean_the_same_to_both(
    apiserver: ApiServer, metadata: dict[str, Any]
) -> None:
    body = owned({"type": "Template", "template": TEMPLATE | {"metadata": metadata}})
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
    assert status == 201, stored
    assert parse_service(stored).template == parse_service(body).template


@pytest.mark.parametrize("name", ["named", "inline"])
def test_a_canary_is_stored_as_it_was_written(apiserver: ApiServer, name: str) -> None:
    body = sample(name)
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
    assert status == 201, stored
    assert stored["spec"]["canary"] == body["spec"]["canary"]
    assert stored["spec"]["workload"] == body["spec"]["workload"]
    assert parse_service(stored).canary == parse_service(body).canary


def test_what_kubernetes_adds_to_no_template_is_no_new_revision(apiserver: ApiServer) -> None:
    """Nulls and the order of keys come and go between kubectl, GitOps tools and the API server."""
    pod = {"nodeSelector": None, "containers": [{"image": "registry.example/vllm:1", "name": "engine"}]}
    body = owned({"type": "Template", "template": {"metadata": None, "spec": pod}})
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", body)
    assert status == 201, stored
    parsed = parse_service(stored)
    assert parsed.template is not None
    assert parsed.template.revision == template_revision(TEMPLATE)
    assert parsed.template.body() == TEMPLATE
    assert parsed.target == owned_target("chat", parsed.template.revision)


def test_the_type_of_a_workload_stays(apiserver: ApiServer) -> None:
    body = owned()
    body["metadata"]["name"] = "stays"
    status, stored = apiserver.request("POST", SERVICES, body)
    assert status == 201, stored
    try:
        stored["spec"]["workload"] = {"type": "Target", "targetRef": {"name": "chat"}}
        status, answer = apiserver.request("PUT", f"{SERVICES}/stays", stored)
        assert status == 422
        assert (
            "type cannot be changed: create another InferenceService and delete this one" in answer["message"]
        )
    finally:
        apiserver.request("DELETE", f"{SERVICES}/stays")


def test_an_adopted_canary_defaults_to_a_deployment(apiserver: ApiServer) -> None:
    status, stored = apiserver.request("POST", f"{SERVICES}?dryRun=All", tried())
    assert status == 201
    assert get(stored, ("spec", "canary", "targetRef")) == {
        "group": "apps",
        "kind": "Deployment",
        "name": "chat-canary",
    }
    canary = parse_service(stored).canary
    assert canary is not None
    assert canary.target == TargetRef("apps", "Deployment", "chat-canary")
    assert canary.step_percents == (5, 20, 50)
