"""The report of ``penstock load`` for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
ROWS = {
    "ttft_seconds": "time to first token",
    "inter_token_seconds": "inter-token latency",
    "tpot_seconds": "time per output token",
    "latency_seconds": "whole request",
    "send_lag_seconds": "sent late by",
}


def print_load_table(report: dict[str, Any]) -> None:
    """Print counts, percentiles in milliseconds, and attainment."""
    console = Console(soft_wrap=True)  # a line cut at 80 columns of a pipe helps nobody
    requests = report["requests"]
    if report["interrupted"]:
        console.print("Interrupted: what was measured so far.")
    console.print(
        f"{requests['due']} requests in {report['period_seconds']:.0f} s: "
        f"{requests['completed']} completed, {requests['failed']} failed"
        f" ({_number(report['offered_per_second'])}/s offered, {_number(report['completed_per_second'])}/s "
        f"completed, {_number(report['output_tokens_per_second'])} output tokens/s)"
    )
    for kind, count in sorted(report["errors"].items()):
        console.print(f"  {count} x {kind}")
    table = Table("milliseconds", box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for key, title in ROWS.items():
        table.add_row(title, *(_milliseconds(report[key][column]) for column in COLUMNS))
    console.print(table)
    slo = report["slo"]
    for name in ("ttft", "tpot"):
        ratio = slo[f"{name}_attained_ratio"]
        if ratio is not None:
            objective = _milliseconds(slo[f"{name}_objective_seconds"])
            console.print(f"{name.upper()} <= {objective} ms: {ratio:.2%} of all requests")
    if len(report["requests_by_url"]) > 1:
        for url, count in sorted(report["requests_by_url"].items()):
            console.print(f"  {count} to {url}")
    if report["engine_lag_ratio"] is not None:
        console.print(f"stand-in engines: steps late by {report['engine_lag_ratio']:.1%} of their duration")


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e3:.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
