"""The demo itself: `penstock demo --quick` as a user runs it, Ctrl-C in its middle, both scenes with Envoy.

One file, which one worker runs: demos time themselves, and two side by side find the machine too busy.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
from penstock.sandbox.demo.play import Play
from penstock.sandbox.demo.scene import Phase, Scene, SmallModel
from penstock.sandbox.prometheus import PrometheusUnavailableError, obtain_prometheus

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]
COMMAND = [sys.executable, "-m", "penstock", "demo", "--quick", "--api=fake"]
MARK = "PENSTOCK_DEMO_TEST"
# One replica and no second: what exceeds it can only go to the small model or away. It carries twice the
# quiet load by its objectives: a burst, or a machine slow for a moment, must not look like the overload.
GATEWAY_SCENE = Scene(
    phases=(
        Phase("quiet", 2, 34, "quiet"),
        Phase("overload", 9, 18, "overload"),
        Phase("after", 1, 8, "after"),
    ),
    first_mode="Observe",
    max_replicas=1,
    startup_seconds=2.0,
    rate_window_seconds=8.0,
    tpot_p95_milliseconds=150,
    fallback=SmallModel(),
)
WHOLE = canary_scene()
# Three times as slow and two replicas: found within seconds, at a load that a busy machine bears.
SLOW = replace(WHOLE.tries[0], flags=("--slow-factor=3",))
CANARY_SCENE = replace(
    WHOLE,
    tries=(SLOW,),
    per_second=8.0,
    stable_replicas=2,
    quiet_seconds=1.0,
    after_seconds=2.0,
    most_seconds=70.0,
)


def descendants(mark: str) -> list[str]:
    """Command lines of the live processes that carry our mark in their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}".encode() in (directory / "environ").read_bytes().split(b"\0"):
                found.append((directory / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return [line for line in found if line]


@pytest.fixture(scope="module", autouse=True)
def prometheus() -> None:
    """Skip where there is none; otherwise it is there before a demo counts its time."""
    try:
        obtain_prometheus()
    except PrometheusUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    mark = str(tmp_path)  # the name alone is another worker's too
    environment = {**os.environ, MARK: mark, "TMPDIR": str(tmp_path), "COLUMNS": "80"}
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process, mark
        finally:
            process.kill()


def none_left(mark: str) -> bool:
    deadline = time.monotonic() + 10
    while descendants(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not descendants(mark)


@pytest.mark.seconds(90)
def test_the_quick_demo_scales_tells_why_and_leaves_nothing(
    demo: tuple[subprocess.Popen[str], str], tmp_path: Path
):
    process, mark = demo
    text, _ = process.communicate(timeout=140)
    words = " ".join(text.split())
    # 4: all of it happened, but this machine was too busy to judge latencies by
    assert process.returncode in (0, 4), text
    assert "apiVersion: serving.penstock.dev/v1alpha1" in text
    # Penstock's own sentence, with what one replica fewer would give
    assert re.search(r"decides LatencyObjective: \d replicas \(1 of them spare\): at [\d.]+ req/s", words)
    assert re.search(r"gives? p95 TTFT [\d.]+ m?s > 1 s, \d give p95 TTFT [\d.]+ m?s <= 1 s", words)
    ups = [(int(a), int(b)) for a, b in re.findall(r"Deployment chat scaled from (\d) to (\d)", words)]
    assert ups
    assert ups[0][0] == 2 < ups[0][1]
    rows = re.findall(
        r"^(quiet|step|after|whole run) +[\d.]+/s .* (held|missed|not judged) +[\d.]+%$", text, re.MULTILINE
    )
    assert [name for name, _ in rows] == ["quiet", "step", "after", "whole run"]
    assert rows[-1][1] == ("held" if process.returncode == 0 else "not judged")
    assert re.search(r"Replica-hours: 0\.\d+ used", words)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert none_left(mark), descendants(mark)
    assert list(tmp_path.glob("penstock-*")) == []


@pytest.mark.parametrize("after", ["the operator: penstock run", "nobody who scales"])
def test_ctrl_c_ends_every_process(demo: tuple[subprocess.Popen[str], str], tmp_path: Path, after: str):
    process, mark = demo
    assert process.stdout is not None
    for line in process.stdout:
        if after in line:
            break
    assert len(descendants(mark)) >= 2
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 130, rest
    assert rest.splitlines()[-1] == "Interrupted; everything is stopped."
    assert "Traceback" not in rest
    assert none_left(mark), descendants(mark)
    assert list(tmp_path.glob("penstock-*")) == []


@pytest.mark.seconds(70)
async def test_what_one_replica_cannot_take_goes_to_the_small_model_or_gets_a_429(tmp_path: Path):
    said: list[str] = []

    def say(kind: Kind, text: str) -> None:
        said.append(f"{kind} {text}")

    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path, GATEWAY_SCENE, say)
        await cluster.open(stack, ApiChoice.FAKE)
        gateway = GatewayProcess(tmp_path)
        log = cluster.logs / "operator.log"
        arguments = gateway.operator_arguments
        operator = OperatorProcess(cluster.kubeconfig, cluster.prometheus.url, log, GATEWAY_SCENE, arguments)
        stack.callback(operator.stop)
        stack.callback(gateway.stop)
        report = await Play(cluster, operator, GATEWAY_SCENE, say, said.append, gateway).run()
    words = "\n".join(said)
    assert "note the gateway (Envoy) serves chat too. Clients swap one URL" in words
    assert "reports AdmissionLimited=True (AdmissionLimited):" in words
    assert "reports FallbackActive=True (FallbackActive):" in words
    overload = report.phases[1]
    assert report.total.failed == 0  # whatever the limit did: nothing was cut, lost or refused otherwise
    assert overload.by_fallback > 0
    assert overload.shed > 0
    assert overload.answered == overload.requests - overload.shed
    # At most a quarter of the requests, the limit's own coarseness included: one replica's some 25 in flight.
    assert overload.by_fallback <= 0.35 * overload.requests
    assert report.phases[0].shed == 0
    assert report.relief is not None
    assert report.relief.first_seconds >= 0, words
    assert not gateway.running


@pytest.mark.seconds(50)
async def test_a_slow_revision_is_taken_back_on_evidence_and_no_request_fails(tmp_path: Path):
    said: list[str] = []

    def say(kind: Kind, text: str) -> None:
        said.append(f"{kind} {text}")

    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path, CANARY_SCENE.cluster, say)
        await cluster.open(stack, ApiChoice.FAKE)
        gateway = GatewayProcess(tmp_path)
        operator = OperatorProcess(
            cluster.kubeconfig,
            cluster.prometheus.url,
            cluster.logs / "operator.log",
            CANARY_SCENE.cluster,
            gateway.operator_arguments,
            listen_port=free_port(),
        )
        stack.callback(operator.stop)
        stack.callback(gateway.stop)
        report = await CanaryPlay(cluster, operator, gateway, CANARY_SCENE, say, said.append).run()
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
