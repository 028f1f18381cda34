"""An explanation for programs: what status says, and the model's answers beside it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from penstock.cli.explain_canary import verdict
from penstock.cli.explain_read import Live
from penstock.cli.explain_what_if import WhatIf
from penstock.cli.plan_question import Outcome
from penstock.model.spec import ServiceSpec

_SECTIONS = ("decision", "replicas", "load", "objectives", "learned", "admission", "fallback", "foreignFloor")


def explained_json(live: Live, whatif: WhatIf | str) -> dict[str, Any]:
    """Return the object of ``-o json``; what is not known is null, unbounded times too."""
    status = live.status
    canary = status.get("canary")
    return {
        "namespace": live.key.namespace,
        "name": live.key.name,
        "mode": live.mode,
        "generation": live.generation,
        "observedGeneration": status.get("observedGeneration"),
        "fault": live.fault or None,
        **{name: status.get(name) for name in _SECTIONS},
        "canary": None if not canary else _canary(canary),
        "conditions": status.get("conditions") or [],
        "whatIf": None if isinstance(whatif, str) else _what_if(whatif),
        "whatIfMissing": whatif if isinstance(whatif, str) else None,
    }


def _canary(canary: dict[str, Any]) -> dict[str, Any]:
    """Return the canary without the operator's memory, with a verdict for each metric."""
    shown = {name: value for name, value in canary.items() if name != "memory"}
    shown["rows"] = [{**_counted(row), "verdict": verdict(row)} for row in canary.get("rows") or ()]
    return shown


def _counted(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without counts of an arm that it counts no requests of: a query's values are none."""
    arms = [arm for arm in ("canary", "stable") if not row.get(f"{arm}Requests")]
    empty = {f"{arm}{what}" for arm in arms for what in ("Requests", "Bad")}
    return {name: value for name, value in row.items() if value or name not in empty}


def _what_if(whatif: WhatIf) -> dict[str, Any]:
    asked = whatif.asked
    lengths = asked.lengths
    return {
        "ratePerSecond": asked.rate_per_second,
        "rateSource": asked.rate_source,
        "inputTokens": None if lengths is None else lengths.input.mean,
        "outputTokens": None if lengths is None else lengths.output.mean,
        "lengthsSource": None if lengths is None else lengths.source,
        "stepFactors": asdict(asked.factors),
        "followed": asked.followed,
        "notMeasured": asked.not_measured or None,
        "decided": asked.decided,
        "outcomes": [_outcome(asked.spec, each) for each in whatif.outcomes],
    }


def _outcome(spec: ServiceSpec, outcome: Outcome) -> dict[str, Any]:
    return {
        "replicas": outcome.replicas,
        "utilization": outcome.prediction.utilization,
        "seconds": {each.name: outcome.seconds(each) for each in spec.slo.objectives},
        "shedFraction": outcome.shed_fraction,
        "broken": outcome.broken,
    }
