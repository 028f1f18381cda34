"""The pages that users look reasons and metrics up in name all of them, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.model.decision import Reason
from penstock.model.reading import Absence
from penstock.telemetry.fleet_metrics import BY_OBJECTIVE, GAUGES
from penstock.telemetry.metrics import OperatorMetrics

DOCS = Path(__file__).parents[2] / "docs"


def test_every_metric_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(penstock_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    process = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in OperatorMetrics().registry.collect()
    }
    fleet = {f"penstock_service_{name}" for name in (*GAUGES, *BY_OBJECTIVE, "decision", "requests_total")}
    assert documented == process | fleet


def test_every_reason_and_every_absence_is_documented() -> None:
    words = set(re.findall(r"`(\w+)`", (DOCS / "conditions.md").read_text()))
    assert {reason.value for reason in Reason} <= words
    assert {absence.value for absence in Absence} <= words
