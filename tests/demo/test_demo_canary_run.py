"""The canary scene with the real Envoy and Prometheus: a slow revision, from its first request to none."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.sandbox.child_process import free_port
from penstock.sandbox.demo.canary_play import CanaryPlay
from penstock.sandbox.demo.canary_scene import canary_scene
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster
from penstock.sandbox.demo.commentary import Kind
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.prometheus import PrometheusUnavailableError, obtain_prometheus

WHOLE = canary_scene()
# Three times as slow and two replicas: found within seconds, at a load that a busy machine bears.
SLOW = replace(WHOLE.tries[0], flags=("--slow-factor=3",))
SCENE = replace(
    WHOLE,
    tries=(SLOW,),
    per_second=8.0,
    stable_replicas=2,
    quiet_seconds=1.0,
    after_seconds=2.0,
    most_seconds=70.0,
)


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.xdist_group("demo")
@pytest.mark.seconds(50)
async def test_a_slow_revision_is_taken_back_on_evidence_and_no_request_fails(tmp_path: Path):
    try:
        obtain_prometheus()
    except PrometheusUnavailableError as error:
        pytest.skip(str(error))
    said: list[str] = []

    def say(kind: Kind, text: str) -> None:
        said.append(f"{kind} {text}")

    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path, SCENE.cluster, say)
        await cluster.open(stack, ApiChoice.FAKE)
        gateway = GatewayProcess(tmp_path)
        operator = OperatorProcess(
            cluster.kubeconfig,
            cluster.prometheus.url,
            cluster.logs / "operator.log",
            SCENE.cluster,
            gateway.operator_arguments,
            listen_port=free_port(),
        )
        stack.callback(operator.stop)
        stack.callback(gateway.stop)
        report = await CanaryPlay(cluster, operator, gateway, SCENE, say, said.append).run()
    words = "\n".join(said)
    (tried,) = report.tried
    assert report.failed == 0, report.errors
    assert report.by_canary > 0
    assert tried.verdict == "rolled back", words
    phases = [row.phase for row in tried.rows]
    assert phases[:3] == ["Warming", "Testing", "RollingBack"], words
    warming, decided = tried.rows[0], tried.rows[tried.decided_in]
    assert warming.weight_percent == 0
    assert warming.canary <= 2, words  # the status tells of Testing a moment after the gateway moved
    assert decided.canary > 0
    ttft = next(each for each in decided.evidence if each.metric == "ttft")
    assert ttft.worse is not None
    assert ttft.worse_threshold is not None
    assert ttft.worse >= ttft.worse_threshold
    assert "canary RollingBack: revision" in words
    assert "canary requests slower than" in words
    assert not gateway.running
