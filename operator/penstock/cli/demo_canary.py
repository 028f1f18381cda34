"""``penstock demo --scene canary``: one revision that is taken back and one that passes, on this machine."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from penstock.cli.demo_terminal import Terminal
from penstock.sandbox.child_process import free_port
from penstock.sandbox.demo.canary_play import CanaryPlay
from penstock.sandbox.demo.canary_report import CanaryReport, PhaseRow, TriedRevision
from penstock.sandbox.demo.canary_scene import canary_scene
from penstock.sandbox.demo.canary_story import MetricReading
from penstock.sandbox.demo.cluster import ApiChoice, DemoCluster
from penstock.sandbox.demo.commentary import Kind
from penstock.sandbox.demo.gateway_process import GatewayProcess
from penstock.sandbox.demo.operator_process import OperatorProcess
from penstock.sandbox.demo.scene import NAME, PROFILE

_METRICS = ("ttft", "errors")
_COLUMNS = ("stable", "canary", "TTFT\n>", "TTFT\n<=", "errors\n>", "errors\n<=")


async def play_canary(
    stack: AsyncExitStack, home: Path, terminal: Terminal, api: ApiChoice
) -> tuple[CanaryReport, DemoCluster, GatewayProcess]:
    """Start everything on `stack` and play the scene."""
    scene = canary_scene()
    terminal.write("Penstock demo: a new revision earns its requests.")
    terminal.write("Real: the operator, a gateway (Envoy), Prometheus, the traffic and its latencies.")
    terminal.write("Played: the GPUs. The engines are local processes with the timing of Llama 3.1")
    terminal.write("8B on an L40S, and times of minutes are cut to seconds.")
    terminal.write("It takes about 3 minutes; Ctrl-C ends everything.\n")
    gateway = GatewayProcess(home)  # first: it may be missing
    cluster = DemoCluster(home, scene.cluster, terminal.say)
    await cluster.open(stack, api)
    operator = OperatorProcess(
        cluster.kubeconfig,
        cluster.prometheus.url,
        home / "logs" / "operator.log",
        scene.cluster,
        gateway.operator_arguments,
        listen_port=free_port(),
    )
    stack.callback(operator.stop)
    stack.callback(gateway.stop)
    terminal.say(Kind.SETUP, "the operator: penstock run, one tick a second")
    terminal.say(Kind.SETUP, f"a Deployment {NAME} and its Service: stand-in engines, {PROFILE}")
    terminal.say(Kind.SETUP, f"a gateway ({gateway.binary.name}), configured by the operator")
    play = CanaryPlay(cluster, operator, gateway, scene, terminal.say, terminal.show_yaml)
    return await play.run(), cluster, gateway


def show_canary_report(report: CanaryReport, terminal: Terminal) -> None:
    """Write the final table and what it says."""
    table = Table("tried", "phase", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in _COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    for tried in report.tried:
        decided = tried.decided_in
        for position, row in enumerate(tried.rows):
            verdict = _verdict(tried) if position == decided else ("", "")
            table.add_row(tried.name if position == 0 else "", *_cells(row), *verdict)
    terminal.write()
    Console(width=terminal.width, highlight=False).print(table)
    terminal.write()
    terminal.paragraph(
        "stable and canary: requests that clients sent meanwhile, by who answered. >: log10 of the evidence "
        "that the canary is worse than allowed; <=: that it is not; at the end of the phase. "
        f"{_decides(report)}"
    )
    terminal.write(f"Failed requests: {report.failed} of {report.requests}.")
    if report.engine_lag_ratio is not None:
        terminal.write(
            f"Trust: the engines' steps ended late by {report.engine_lag_ratio:.1%} of their duration."
        )


def _verdict(tried: TriedRevision) -> tuple[str, str]:
    return tried.verdict or "none", "-" if tried.seconds is None else f"{tried.seconds:.0f} s"


def _cells(row: PhaseRow) -> tuple[str, ...]:
    found = {each.metric: each for each in row.evidence}
    readings = [found.get(name, MetricReading(name)) for name in _METRICS]
    evidence = [value for each in readings for value in (each.worse, each.not_worse)]
    return (
        f"{row.phase} {row.weight_percent} %" if row.weight_percent else row.phase,
        str(row.stable),
        str(row.canary),
        *("-" if value is None else f"{value:+.1f}" for value in evidence),
    )


def _decides(report: CanaryReport) -> str:
    """Say where evidence decides, from what the operator exposed."""
    rows = [row for tried in report.tried for row in tried.rows if row.evidence]
    last = {each.metric: each for each in rows[-1].evidence} if rows else {}
    parts = [
        f"{each.metric} {each.worse_threshold:.1f} and {each.not_worse_threshold:.1f}"
        for each in (last.get(name) for name in _METRICS)
        if each is not None and each.worse_threshold is not None and each.not_worse_threshold is not None
    ]
    return f"They decide at: {', '.join(parts)}." if parts else "None was read."
