"""The ``penstock`` command: finds the sub-command's file only when it is called, so that
``penstock plan`` does not pay for kopf, nor ``penstock run`` for plotting."""

from __future__ import annotations

import importlib
from typing import Any

import click

from penstock import __version__
from penstock.cli.standard_streams import require_output, watch_output

# name -> one line of help; the module is penstock.cli.<name> with a click command of the same name.
COMMANDS = {
    "run": "Run the operator.",
    "plan": "Plan capacity without a cluster.",
    "explain": "Explain a live decision, and what one replica more or less would give.",
    "simulate": "Replay a trace against scaling policies in a simulation: a table, an HTML report.",
    "replay": "Decide on recorded observations again, without a cluster.",
    "engine": "Run a stand-in LLM server with an engine profile's timing.",
    "load": "Send open-loop load from a rate or a trace and report percentiles.",
    "gateway": "Stand in for the operator beside a gateway (its agent).",
    "drain": "Wait until a gateway pod's Envoy has answered all its requests (its preStop hook).",
    "demo": "Run everything together on this machine, with live traffic and a commentary.",
}
# Those whose answer goes to standard output; the others work for hours, maybe without any.
ANSWERING = ("plan", "explain", "simulate", "replay", "load", "demo")


class LazyGroup(click.Group):
    """A group that imports a sub-command's module when it is needed."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command; standard output that cannot be written is an error like others."""
        watch_output()
        return super().main(*args, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import ``penstock.cli.<name>`` and return its command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"penstock.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: penstock plan -f service.yaml --rate 20; penstock run --prometheus-url http://prometheus:9090",
)
@click.version_option(__version__, prog_name="penstock")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Penstock keeps inference services inside their latency objectives.

    Set objectives, not thresholds.
    """
    if ctx.invoked_subcommand in ANSWERING:
        require_output()
