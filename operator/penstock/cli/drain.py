"""``penstock drain``: the preStop hook of gateway pods."""

from __future__ import annotations

import click

from penstock.cli.duration import DURATION


@click.command(
    epilog="""\b
Example, as the hook of a gateway pod runs it:
  penstock drain --admin-port 9901 --deadline 10m"""
)
@click.option(
    "--admin-port", type=click.IntRange(1, 65535), default=9901, show_default=True, help="Envoy's admin port."
)
@click.option("--deadline", type=DURATION, default="10m", show_default=True, help="Longest wait.")
def drain(admin_port: int, deadline: float) -> None:
    """Wait until the Envoy of this pod has answered all its requests.

    Keep-alive clients are sent to other pods meanwhile. Ends at once where no Envoy runs.
    """
    from penstock.dataplane.envoy.lame_duck import drain as drain_proxy

    try:
        drained = drain_proxy(admin_port, deadline_seconds=deadline)
    except ConnectionRefusedError as error:
        click.echo(f"nothing to drain: {error}")
        return
    if drained.active is None:
        click.echo(f"whether requests were still active after {drained.waited_seconds:.0f} s was not told")
    elif drained.active:
        click.echo(f"{drained.active} requests were still active after {drained.waited_seconds:.0f} s")
    else:
        click.echo(f"drained within {drained.waited_seconds:.1f} s")
