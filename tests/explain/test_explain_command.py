"""`penstock explain` against an API server: what it reads, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from fakes.explained import STATUS, explained
from fakes.scripted_source import Samples, ScriptedSource
from penstock.cli.explain_read import live_of, read_measured
from penstock.cli.main import main
from penstock.kube.aio_client import connect
from penstock.kube.api import DEPLOYMENTS, INFERENCE_SERVICES, PODS
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


async def test_rate_and_lengths_are_those_of_the_targets_pods(api: FakeApi, tmp_path: Path) -> None:
    deployed(api)

    def script(query: str) -> Samples:
        if "request_prompt_tokens" in query or "request_generation_tokens" in query:
            return [*lengths("chat-1", 1.0), *lengths("other-1", 9.0)]
        if "running" in query:
            pods = [{"namespace": "prod", "pod": pod} for pod in ("chat-1", "chat-2")]
            gauges = [({**each, "part": "running"}, 3.0) for each in pods]
            return [*gauges, *(({**each, "part": "age"}, 1.0) for each in pods), ({"part": "before"}, 1.0)]
        if "first_token_seconds_count" in query:
            return [({"namespace": "prod", "pod": pod}, 12.0) for pod in ("chat-1", "chat-2", "other-1")]
        return []

    kube = await connect(kubeconfig=str(api.kubeconfig(tmp_path / "kubeconfig")))
    try:
        body = api.get(INFERENCE_SERVICES, "prod", "chat")
        found = await read_measured(kube, ScriptedSource(script), live_of(body), SeriesSettings())
    finally:
        await kube.close()
    assert found.rate_per_second == 24.0
    assert found.lengths is not None
    assert found.lengths.source == "Prometheus, the last 5 minutes"
    assert 50 < found.lengths.input.mean < 250


async def test_a_target_that_is_not_there_is_the_reason_why_nothing_is_measured(
    api: FakeApi, tmp_path: Path
) -> None:
    kube = await connect(kubeconfig=str(api.kubeconfig(tmp_path / "kubeconfig")))
    try:
        live = live_of(api.get(INFERENCE_SERVICES, "prod", "chat"))
        found = await read_measured(kube, ScriptedSource(lambda _: []), live, SeriesSettings())
    finally:
        await kube.close()
    assert found.rate_per_second is None
    assert found.why.startswith("the pods of Deployment/chat cannot be listed: ")
