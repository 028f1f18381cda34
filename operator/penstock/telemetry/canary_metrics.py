"""Metrics of each canary, beside those of its service: its phase and share, both arms, and the evidence.

Only services with `spec.canary` have them, and they go with the service. Counts of evidence begin anew with
each run, so they are gauges; what gateways count does not, and is a counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.model.canary_verdict import Evidence

Lines = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class ArmSample:
    """One arm; None where there is no value."""

    ready_replicas: float | None = None
    in_flight: float | None = None
    requests: float | None = None  # answered or failed, as the gateways count
    server_errors: float | None = None  # of these


@dataclass(frozen=True, slots=True)
class CanarySample:
    """What is exposed of one service's canary. `arms` are by "stable" and "canary"."""

    phase: str
    weight_percent: float
    arms: Mapping[str, ArmSample] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    requests_needed: float | None = None


# name -> type and help, in the order of docs/metrics.md
FAMILIES = {
    "phase": ("gauge", "1 for the phase of the canary"),
    "weight_percent": ("gauge", "Share of the requests that the canary gets"),
    "ready_replicas": ("gauge", "Replicas of an arm that get requests"),
    "in_flight": ("gauge", "Requests in flight at an arm through the gateways"),
    "requests_total": ("counter", "Requests of an arm at the gateways by outcome: answered or failed"),
    "judged_requests": ("gauge", "Requests of an arm that are evidence, since the run began"),
    "bad_requests": ("gauge", "Of these, failed or slower than the edge that is judged"),
    "bad_ratio": ("gauge", "Share of bad requests of the canary over that of the stable arm"),
    "evidence_log10": (
        "gauge",
        "Evidence that it is worse than allowed, and that it is not: log10 of an e-value",
    ),
    "evidence_threshold_log10": ("gauge", "Where that evidence decides"),
    "requests_needed": ("gauge", "Requests of the canary until a verdict, at the present rate of evidence"),
}
_HYPOTHESES = ("worse", "not_worse")


def new_families() -> Lines:
    """Return the head of each family."""
    return {
        name: [f"# HELP penstock_canary_{name} {text}", f"# TYPE penstock_canary_{name} {kind}"]
        for name, (kind, text) in FAMILIES.items()
    }


def add_canary(lines: Lines, labels: str, sample: CanarySample) -> None:
    """Append the series of one canary; `labels` are ``{namespace="...",name="..."``, without the end."""

    def put(family: str, value: float | None, more: str = "") -> None:
        if value is not None:
            lines[family].append(f"penstock_canary_{family}{labels}{more}}} {value}")

    put("phase", 1, f',phase="{sample.phase}"')
    put("weight_percent", sample.weight_percent)
    put("requests_needed", sample.requests_needed)
    for arm, seen in sample.arms.items():
        put("ready_replicas", seen.ready_replicas, f',arm="{arm}"')
        put("in_flight", seen.in_flight, f',arm="{arm}"')
        if seen.requests is not None and seen.server_errors is not None:
            answered = max(0.0, seen.requests - seen.server_errors)
            put("requests_total", answered, f',arm="{arm}",outcome="answered"')
            put("requests_total", seen.server_errors, f',arm="{arm}",outcome="failed"')
    for row in sample.evidence:
        if row.missing:
            continue
        metric = f',metric="{row.metric}"'
        put("bad_ratio", row.ratio, metric)
        for arm, total, bad in (
            ("stable", row.stable_total, row.stable_failures),
            ("canary", row.canary_total, row.canary_failures),
        ):
            if arm == "stable" and not row.for_threshold:
                continue  # judged alone, as a stop-loss: nothing was counted, which is not zero
            put("judged_requests", total, f'{metric},arm="{arm}"')
            put("bad_requests", bad, f'{metric},arm="{arm}"')
        found = (
            (row.log10_against, row.against_threshold),
            (row.log10_for, row.for_threshold),
        )
        for hypothesis, (value, threshold) in zip(_HYPOTHESES, found, strict=True):
            if threshold:  # 0: this metric decides nothing in that direction
                put("evidence_log10", value, f'{metric},hypothesis="{hypothesis}"')
                put("evidence_threshold_log10", threshold, f'{metric},hypothesis="{hypothesis}"')
