"""The pages that users look reasons and metrics up in name all of them, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.model.canary_verdict import CanaryReason
from penstock.model.conditions import ConditionType
from penstock.model.decision import Reason, RolloutReason, TrafficReason
from penstock.model.reading import Absence
from penstock.telemetry.canary_metrics import FAMILIES
from penstock.telemetry.fleet_metrics import BY_OBJECTIVE, COUNTED_BY_OBJECTIVE, GAUGES
from penstock.telemetry.metrics import OperatorMetrics

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = Path(__file__).parents[2] / "operator" / "penstock"
# Where a problem with gateways or routes is given its reason: a pair, or a Refusal, of word and sentence.
TOLD_BY = ("controller/*.py", "dataplane/gatewayapi/*.py")


def test_every_metric_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(penstock_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    process = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in OperatorMetrics().registry.collect()
    }
    counters = ("requests_total", *(f"{name}_total" for name in COUNTED_BY_OBJECTIVE))
    fleet = {f"penstock_service_{name}" for name in (*GAUGES, *BY_OBJECTIVE, "decision", *counters)}
    assert documented == process | fleet | {f"penstock_canary_{name}" for name in FAMILIES}


def test_every_reason_and_every_absence_is_documented() -> None:
    words = set(re.findall(r"`(\w+)`", (DOCS / "conditions.md").read_text()))
    assert {reason.value for reason in Reason} <= words
    assert {reason.value for reason in TrafficReason} <= words
    assert {reason.value for reason in RolloutReason} <= words
    assert {reason.value for reason in CanaryReason} <= words
    assert {absence.value for absence in Absence} <= words


def test_every_problem_that_the_operator_tells_of_is_documented() -> None:
    words = set(re.findall(r"`(\w+)`", (DOCS / "conditions.md").read_text()))
    told = {
        word
        for pattern in TOLD_BY
        for path in PACKAGE.glob(pattern)
        for word in re.findall(r'(?:Refusal| )\(\s*"([A-Z][a-z]+[A-Z]\w*)",', path.read_text())
    }
    assert {"ConfigurationRejected", "NoGatewayPort", "RuleNotFound", "WriteRefused"} <= told
    assert told <= words


def test_every_condition_has_a_section() -> None:
    sections = re.findall(r"^## (\w+):", (DOCS / "conditions.md").read_text(), re.MULTILINE)
    assert sections == [each.value for each in ConditionType]
