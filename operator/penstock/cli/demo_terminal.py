"""The demo on a terminal: remarks with the time since the start, a final table; plain text in a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time

import click
from rich.console import Console
from rich.table import Table

from penstock.sandbox.demo.commentary import Kind
from penstock.sandbox.demo.report import DemoReport, Row
from penstock.sandbox.demo.scene import NAME

LONGEST_LINE = 100
INDENT = 17  # time and label
_COLOURS = {
    Kind.DECISION: "green",
    Kind.CONDITION: "yellow",
    Kind.CANARY: "green",
    Kind.LOAD: "cyan",
    Kind.APPLY: "cyan",
    Kind.OPERATOR: "red",
}


class Terminal:
    """Writes to standard output; click leaves colours out where that is no terminal."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._width = min(LONGEST_LINE, shutil.get_terminal_size((80, 24)).columns)

    @property
    def width(self) -> int:
        """Columns of a line."""
        return self._width

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def say(self, kind: Kind, text: str) -> None:
        """Write one remark, wrapped under its own column."""
        minutes, seconds = divmod(int(self.seconds), 60)
        label = click.style(f"{kind:<9}", fg=_COLOURS.get(kind), bold=kind in _COLOURS)
        first, *rest = textwrap.wrap(text, self._width - INDENT, break_on_hyphens=False) or [""]
        self.write(f"{minutes:2d}:{seconds:02d}  {label} {first}")
        for line in rest:
            self.write(" " * INDENT + line)

    def write(self, text: str = "") -> None:
        """Write a line as it is."""
        click.echo(text)
        sys.stdout.flush()

    def show_yaml(self, text: str) -> None:
        """Write a manifest, indented."""
        for line in text.splitlines():
            self.write(click.style(f"      {line}".rstrip(), dim=True))

    def show_report(self, report: DemoReport) -> None:
        """Write the final table and what it says."""
        console = Console(width=self._width, highlight=False)
        objective = f"{report.objective_seconds:g} s"
        table = Table("phase", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        shares = ("fallback", "429") if report.fallback_name else ("within",)  # all of them: over 80 columns
        for title in ("load", "replicas", "requests", "p95 TTFT", f"SLO {objective}", *shares):
            table.add_column(title, justify="right")
        for row in (*report.phases, report.total):
            table.add_row(*_cells(row, report))
        self.write()
        console.print(table)
        self.write()
        if report.fallback_name:
            self._show_relief(report)
        used, static = report.used_replica_seconds, report.static_replica_seconds
        saved = 1 - used / static if static else 0.0
        self.write(f"Replica-hours: {used / 3600:.3f} used, starting and draining included; a static fleet")
        self.write(f"of the peak's {report.peak_replicas} replicas: {static / 3600:.3f}. Saved: {saved:.0%}.")
        if report.engine_lag_ratio is not None:
            self.write(
                f"Trust: the engines' steps ended late by {report.engine_lag_ratio:.1%} of their duration."
            )

    def _show_relief(self, report: DemoReport) -> None:
        """Write who answered, and while which time the limit turned requests away."""
        total, name = report.total, report.fallback_name
        self.paragraph(
            f"{total.answered - total.by_fallback} requests were answered by {NAME}, {total.by_fallback} "
            f"by {name} while {NAME} was at its limit, {total.shed} got a 429 at once. p95 TTFT is of all "
            "that were answered."
        )
        if report.relief is not None:
            times = f"from {report.relief.first_seconds:.0f} s to {report.relief.last_seconds:.0f} s"
            followed = "" if report.failure else f"; then replicas had followed, and {NAME} answered alone"
            self.paragraph(f"The limit turned requests away {times} after the step{followed}.")

    def paragraph(self, text: str) -> None:
        """Write text, wrapped."""
        for line in textwrap.wrap(text, self._width, break_on_hyphens=False):
            self.write(line)


def _cells(row: Row, report: DemoReport) -> tuple[str, ...]:
    ttft, within = row.ttft_p95_seconds, row.within_ratio
    rest: tuple[str, ...] = ("-" if within is None else f"{within:.1%}",)
    if report.fallback_name:
        rest = (f"{row.by_fallback}", f"{row.shed}")
    fewest, most, last = row.replicas
    replicas = str(most) if fewest == most else f"{fewest}-{most}, end {last}"
    return (
        row.name,
        f"{row.offered_per_second:.1f}/s",
        replicas,
        f"{row.requests}" + (f" ({row.failed} failed)" if row.failed else ""),
        "-" if ttft is None else f"{ttft:.2f} s",
        _verdict(ttft, report),
        *rest,
    )


def _verdict(ttft_seconds: float | None, report: DemoReport) -> str:
    if report.objection or ttft_seconds is None:
        return "not judged"
    return "held" if ttft_seconds <= report.objective_seconds else "missed"
