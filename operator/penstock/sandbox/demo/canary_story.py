"""What is said of a canary, and what its operator exposes of it at one instant. Pure.

A phase, a step or a share that changes is said with Penstock's own sentence, the message of condition
CanaryHealthy; the evidence in between is read from the operator's metrics, because status shows numbers that
move by themselves once a minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from penstock.sandbox.demo.commentary import Kind, Remark

WORSE, NOT_WORSE = "worse", "not_worse"
_EVIDENCE, _THRESHOLD = "penstock_canary_evidence_log10", "penstock_canary_evidence_threshold_log10"
_REQUESTS = "penstock_canary_judged_requests"


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a canary stands, from a time in seconds since the start of the load on."""

    at_seconds: float
    phase: str
    revision: str
    step: str = ""  # "1/2"; empty: none in force
    weight_percent: int = 0


@dataclass(frozen=True, slots=True)
class MetricReading:
    """One metric's evidence, log10; a threshold of None: nothing is decided in that direction."""

    metric: str
    worse: float | None = None
    not_worse: float | None = None
    worse_threshold: float | None = None
    not_worse_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class EvidenceReading:
    """All evidence at one time; `canary_requests` None: none has been counted."""

    at_seconds: float
    metrics: tuple[MetricReading, ...] = ()
    canary_requests: float | None = None


@dataclass(slots=True)
class _Found:
    values: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)


def stand_of(status: Mapping[str, Any], at_seconds: float) -> Stand | None:
    """Return where the canary of an InferenceService's status stands; None: it shows none."""
    canary = status.get("canary") or {}
    if not canary.get("phase"):
        return None
    return Stand(
        at_seconds,
        str(canary["phase"]),
        str(canary.get("revision", "")),
        str(canary.get("step", "")),
        int(canary.get("weightPercent", 0)),
    )


def has_moved(before: Stand | None, after: Stand | None) -> bool:
    """Whether the phase, the step, the share or the revision is another one."""
    return _essence(before) != _essence(after)


def sentence(status: Mapping[str, Any], stand: Stand) -> Remark:
    """Say where a canary stands, in Penstock's own words."""
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    message = str(conditions.get("CanaryHealthy", {}).get("message", ""))
    share = f" {stand.weight_percent} %" if stand.weight_percent else ""
    return Remark(Kind.CANARY, f"{stand.phase}{share}: {message}" if message else f"{stand.phase}{share}")


def read_evidence(text: str, service: str, at_seconds: float) -> EvidenceReading:
    """Return the evidence in the operator's exposition of one service. Raises ValueError on other text."""
    found: dict[str, _Found] = {}
    requests: list[float] = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("name") != service:
                continue
            if sample.name == _REQUESTS and labels["arm"] == "canary":
                requests.append(sample.value)
            elif sample.name in (_EVIDENCE, _THRESHOLD):
                each = found.setdefault(labels["metric"], _Found())
                values = each.values if sample.name == _EVIDENCE else each.thresholds
                values[labels["hypothesis"]] = sample.value
    metrics = tuple(
        MetricReading(
            name,
            each.values.get(WORSE),
            each.values.get(NOT_WORSE),
            each.thresholds.get(WORSE),
            each.thresholds.get(NOT_WORSE),
        )
        for name, each in found.items()
    )
    return EvidenceReading(at_seconds, metrics, max(requests, default=None))


def evidence_remarks(reading: EvidenceReading) -> Iterator[Remark]:
    """Say how far the evidence is; nothing before the first request of the canary."""
    if not reading.canary_requests:
        return
    parts = [_in_words(each) for each in reading.metrics if each.not_worse_threshold]
    if parts:
        text = f"{reading.canary_requests:.0f} canary requests; log10 of it: {'; '.join(parts)}"
        yield Remark(Kind.EVIDENCE, text)


def _in_words(reading: MetricReading) -> str:
    name = reading.metric if reading.metric == "errors" else reading.metric.upper()
    sides = [
        f"{what} {value:.1f} of {threshold:.1f}"
        for what, value, threshold in (
            ("worse", reading.worse, reading.worse_threshold),
            ("no worse", reading.not_worse, reading.not_worse_threshold),
        )
        if value is not None and threshold is not None
    ]
    return f"{name} {', '.join(sides)}"


def _essence(stand: Stand | None) -> tuple[object, ...]:
    return () if stand is None else (stand.phase, stand.revision, stand.step, stand.weight_percent)
