"""`penstock explain` against an API server: what it reads, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import yaml
from click.testing import CliRunner, Result

from fakes.explained import STATUS, explained
from fakes.scripted_source import Samples, Script, ScriptedSource
from penstock.cli.explain_read import Measured, live_of, read_measured
from penstock.cli.main import main
from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, PODS, Scale
from penstock.metrics_source.base import ErrorKind, QueryError
from penstock.metrics_source.identity import SeriesSettings
from penstock.sandbox.fake_api import FakeApi
from penstock.sandbox.fake_faults import Fault

CRD = Path(__file__).parents[2] / "crds" / "serving.penstock.dev_inferenceservices.yaml"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """An API server with our definition and one service."""
    async with FakeApi([yaml.safe_load(CRD.read_text())]) as fake:
        fake.create(INFERENCE_SERVICES, explained(), "prod")
        # Without lengths no model is solved, which takes a second and more.
        status = {name: section for name, section in STATUS.items() if name != "learned"}
        fake.edit(
            INFERENCE_SERVICES, "prod", "chat", lambda body: {**body, "status": status}, subresource="status"
        )
        yield fake


async def explain(api: FakeApi, tmp_path: Path, *arguments: str) -> Result:
    """Run the command beside the server."""
    kubeconfig = str(api.kubeconfig(tmp_path / "kubeconfig"))
    command = ["explain", *arguments, "--kubeconfig", kubeconfig]
    return await asyncio.to_thread(CliRunner().invoke, main, command)


async def test_the_live_resource_is_explained(api: FakeApi, tmp_path: Path) -> None:
    ran = await explain(api, tmp_path, "prod/chat")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith("prod/chat: 5 replicas, 4 of 4 ready (mode Enforce)\n")
    assert "LatencyObjective" in ran.stdout
    assert "errors" in ran.stdout


async def test_json_is_one_object_on_standard_output(api: FakeApi, tmp_path: Path) -> None:
    lengths = ("--input-tokens", "1155", "--output-tokens", "211")
    ran = await explain(api, tmp_path, "prod/chat", *lengths, "-o", "json")
    assert ran.exit_code == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["canary"]["rows"][0]["canaryBad"] == 3
    assert [each["replicas"] for each in found["whatIf"]["outcomes"]] == [4, 5, 6]


async def test_it_reads_and_never_writes(api: FakeApi, tmp_path: Path) -> None:
    api.requests.reset()
    await explain(api, tmp_path, "prod/chat")
    assert api.requests.to_dict() == {"get inferenceservices": 1}


async def test_a_name_that_is_not_there_is_told_with_those_that_are(api: FakeApi, tmp_path: Path) -> None:
    ran = await explain(api, tmp_path, "dev/chat")
    assert (ran.exit_code, ran.stderr) == (
        1,
        "Error: there is no InferenceService dev/chat\nFix: write one of prod/chat\n",
    )


async def test_a_cluster_without_the_definition_says_what_to_install(tmp_path: Path) -> None:
    async with FakeApi() as bare:
        ran = await explain(bare, tmp_path, "prod/chat")
    assert (ran.exit_code, ran.stderr) == (
        1,
        "Error: this cluster has no InferenceService of serving.penstock.dev: its definition is not "
        "installed\nFix: install it: kubectl apply -f crds/, or the chart\n",
    )


async def test_a_refusal_names_what_to_grant(api: FakeApi, tmp_path: Path) -> None:
    api.faults.add(Fault(verb="get", plural="inferenceservices", code=403, message="no get for jane"))
    ran = await explain(api, tmp_path, "prod/chat")
    assert (ran.exit_code, ran.stderr) == (
        1,
        "Error: the API server refuses: no get for jane\nFix: use a kubeconfig that may read "
        "InferenceServices in prod, or grant it: kubectl create role penstock-reader --verb=get,list "
        "--resource=inferenceservices.serving.penstock.dev\n",
    )


async def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    async with FakeApi() as gone:
        kubeconfig = gone.kubeconfig(tmp_path / "kubeconfig")
    command = ["explain", "prod/chat", "--kubeconfig", str(kubeconfig)]
    ran = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert ran.exit_code == 1
    assert ran.stderr.startswith("Error: no answer from the cluster: ")
    assert ran.stderr.endswith("Fix: check kubectl cluster-info, or give another --kubeconfig\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chat"], "'chat': write NAMESPACE/NAME, for example prod/chat"),
        (["a/b/c"], "'a/b/c': write NAMESPACE/NAME, for example prod/chat"),
        (["prod/chat", "--input-tokens", "9"], "--output-tokens missing: both mean lengths are needed"),
        (
            ["prod/chat", "--length-scv", "1"],
            "--length-scv is about --input-tokens and --output-tokens: give them too",
        ),
        (["prod/chat", "--pod-label", "le"], "'le' cannot identify series"),
    ],
)
def test_wrong_usage_says_what_to_write(arguments: list[str], said: str) -> None:
    ran = CliRunner().invoke(main, ["explain", *arguments])
    assert ran.exit_code == 2
    assert said in ran.stderr


def deployed(api: FakeApi) -> None:
    """Put the target and its pods there."""
    labels = {"app": "chat"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "engine", "image": "e"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    api.create(DEPLOYMENTS, {"metadata": {"name": "chat"}, "spec": spec}, "prod")
    for name, app in (("chat-1", "chat"), ("chat-2", "chat"), ("other-1", "other")):
        body: dict[str, Any] = {"metadata": {"name": name, "labels": {"app": app}}, "spec": template["spec"]}
        api.create(PODS, body, "prod")


def lengths(pod: str, factor: float) -> Samples:
    where = {"namespace": "prod", "pod": pod}
    return [({**where, "le": "100"}, 0.5 * factor), ({**where, "le": "+Inf"}, 1.0 * factor)]


def engines(query: str) -> Samples:
    """Answer for two pods of the target, with 12 requests served a second each, and a stranger's."""
    if "request_prompt_tokens" in query or "request_generation_tokens" in query:
        return [*lengths("chat-1", 1.0), *lengths("other-1", 9.0)]
    if "running" in query:
        pods = [{"namespace": "prod", "pod": pod} for pod in ("chat-1", "chat-2")]
        gauges = [({**each, "part": "running"}, 3.0) for each in pods]
        return [*gauges, *(({**each, "part": "age"}, 1.0) for each in pods), ({"part": "before"}, 1.0)]
    if "first_token_seconds_count" in query:
        return [({"namespace": "prod", "pod": pod}, 12.0) for pod in ("chat-1", "chat-2", "other-1")]
    if "deriv(" in query:
        return [({"namespace": "prod", "pod": pod}, 14.0) for pod in ("chat-1", "chat-2", "other-1")]
    return []


async def measured(api: FakeApi, tmp_path: Path, script: Script, **status: Any) -> Measured:
    """Return what is read for the service; `status` replaces sections of its status."""
    kube = await connect(kubeconfig=str(api.kubeconfig(tmp_path / "kubeconfig")))
    body = api.get(INFERENCE_SERVICES, "prod", "chat")
    live = live_of(body | {"status": body["status"] | status})
    try:
        return await read_measured(kube, ScriptedSource(script), live, SeriesSettings())
    finally:
        await kube.close()


BY_ENGINES: dict[str, Any] = {"load": {"arrivalRate": "52", "source": "Engine"}, "canary": {}}


async def test_rate_and_lengths_are_those_of_the_targets_pods_with_what_their_queues_grow_by(
    api: FakeApi, tmp_path: Path
) -> None:
    deployed(api)
    found = await measured(api, tmp_path, engines, **BY_ENGINES)
    assert found.rate_per_second == 24.0 + 28.0
    assert found.lengths is not None
    assert found.lengths.source == "Prometheus, the last 5 minutes"
    assert 50 < found.lengths.input.mean < 250
    assert (found.why_no_rate, found.why_no_lengths) == ("", "")


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (
            {"load": {"arrivalRate": "100", "source": "Gateway"}, "canary": {}},
            "the engines serve 24 req/s, what is offered is counted at the gateways",
        ),
        (
            {"load": {"arrivalRate": "30", "source": "Engine"}, "canary": {"weightPercent": 20}},
            "the stable arm's engines serve 24 req/s, the canary has 20 % of the requests",
        ),
    ],
)
async def test_what_engines_serve_is_no_rate_where_more_is_offered_than_they_see(
    api: FakeApi, tmp_path: Path, status: dict[str, Any], why: str
) -> None:
    deployed(api)
    found = await measured(api, tmp_path, engines, **status)
    assert (found.rate_per_second, found.why_no_rate) == (None, why)
    assert found.lengths is not None


async def test_a_prometheus_that_fails_is_the_reason_why_nothing_is_measured(
    api: FakeApi, tmp_path: Path
) -> None:
    deployed(api)
    refused = QueryError(ErrorKind.UNAVAILABLE, "up", "connection refused")
    found = await measured(api, tmp_path, lambda _: refused, **BY_ENGINES)
    assert (found.rate_per_second, found.lengths) == (None, None)
    assert "connection refused" in found.why_no_rate
    assert found.why_no_lengths == found.why_no_rate


async def test_pods_that_no_selector_names_are_not_all_pods_of_the_namespace(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(api)
    nameless = AsyncMock(return_value=Scale(2, 2, "", "7"))
    monkeypatch.setattr(AioKubeApi, "get_scale", nameless)
    found = await measured(api, tmp_path, engines, **BY_ENGINES)
    why = "the /scale of Deployment/chat names no selector: its pods are not known"
    assert found == Measured(why_no_rate=why, why_no_lengths=why)


async def test_a_target_that_is_not_there_is_the_reason_why_nothing_is_measured(
    api: FakeApi, tmp_path: Path
) -> None:
    found = await measured(api, tmp_path, lambda _: [])
    assert found.rate_per_second is None
    assert found.why_no_rate.startswith("the pods of Deployment/chat cannot be listed: ")
    assert found.why_no_lengths == found.why_no_rate
