"""The canary's part of an explanation: where it stands, and the evidence metric by metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

DECIDED_PERCENT = 100
_COLUMNS = ("stable", "canary", "ratio (95 %)", "worse", "no worse")


def standing(canary: Mapping[str, Any], ago: str) -> str:
    """Return phase, share, step and revisions in one line; `ago` says how long the phase lasts."""
    parts = [str(canary.get("summary") or canary.get("phase") or "not looked at yet")]
    if canary.get("step"):
        parts.append(f"step {canary['step']}")
    if ago:
        parts.append(f"for {ago}")
    line = ", ".join(parts)
    if canary.get("revision"):
        against = f" against {canary['stableRevision']}" if canary.get("stableRevision") else ""
        line += f": revision {canary['revision']}{against}"
    return line


def evidence_table(rows: list[Mapping[str, Any]]) -> Table:
    """Return bad of all requests of both arms, how they compare, and how far the evidence is."""
    # 78 columns for the usual numbers: a terminal has 80.
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("metric", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        edge = f" > {row['edge']}" if row.get("edge") else ""
        table.add_row(
            f"{row.get('metric')}{edge}",
            _of(row, "stable"),
            _of(row, "canary"),
            _ratio(row),
            _percent(row.get("againstPercent")),
            _percent(row.get("forPercent")),
            verdict(row),
        )
    return table


def missing_lines(rows: list[Mapping[str, Any]]) -> list[str]:
    """Return why metrics have no numbers."""
    return [f"{row.get('metric')} is missing: {row['missing']}" for row in rows if row.get("missing")]


def verdict(row: Mapping[str, Any]) -> str:
    """Say what the evidence of one metric allows."""
    if row.get("missing"):
        return "missing"
    if (row.get("againstPercent") or 0) >= DECIDED_PERCENT:
        return "worse"
    if (row.get("forPercent") or 0) >= DECIDED_PERCENT:
        return "no worse"
    return "undecided"


def _of(row: Mapping[str, Any], arm: str) -> str:
    bad, requests = row.get(f"{arm}Bad"), row.get(f"{arm}Requests")
    # A row without requests of an arm is judged without it: a stop-loss looks at the canary alone.
    return f"{bad:,} of {requests:,}" if bad is not None and requests else "-"


def _ratio(row: Mapping[str, Any]) -> str:
    if row.get("ratio") is None:
        return "-"
    return f"{row['ratio']} ({row['interval']})" if row.get("interval") else str(row["ratio"])


def _percent(value: object) -> str:
    return "-" if value is None else f"{value} %"
