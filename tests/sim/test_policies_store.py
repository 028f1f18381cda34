"""The store of the policies' benchmark: what its table says of each result."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from bench.policies_run import Forget, Result, Store

HALF_HOUR = Result(
    section="a", workload="stages", policy="penstock", tuning={}, attainment=0.99, replica_hours=3.0,
    average=6.0, scale_events=9, until_seconds=1800.0, ttft_p95_seconds=1.0, tpot_p95_seconds=0.05,
)  # fmt: skip
BOUND = replace(HALF_HOUR, policy="clairvoyant", replica_hours=2.0, average=4.0)


def table(directory: Path, *results: Result) -> list[dict[str, str]]:
    store = Store.at(directory, Forget.NOTHING)
    store.known |= {each.key: each for each in results}
    with store.write_csv().open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_table_has_cost_and_the_ratio_to_the_clairvoyant_of_the_same_section_and_workload(tmp_path: Path):
    elsewhere = [replace(BOUND, section="b", replica_hours=1.0), replace(BOUND, workload="day")]
    rows = table(tmp_path, HALF_HOUR, BOUND, *elsewhere, replace(BOUND, tuning={"ratio": 2.0}))
    assert (rows[0]["cost_usd"], rows[0]["over_clairvoyant"]) == ("12.0", "1.5")
    assert rows[1]["over_clairvoyant"] == "1.0"


def test_a_policy_that_is_back_later_is_compared_by_the_hour(tmp_path: Path):
    late = replace(HALF_HOUR, replica_hours=6.0, until_seconds=3600.0)
    assert table(tmp_path, late, BOUND)[0]["over_clairvoyant"] == "1.5"


def test_the_fallbacks_replicas_are_on_the_bill(tmp_path: Path):
    behind = replace(HALF_HOUR, fallback_hours=0.5)
    row = table(tmp_path, behind, BOUND)[0]
    assert (row["cost_usd"], row["over_clairvoyant"]) == ("14.0", "1.75")


def test_without_a_clairvoyant_the_ratio_is_empty(tmp_path: Path):
    row = table(tmp_path, HALF_HOUR)[0]
    assert (row["cost_usd"], row["over_clairvoyant"]) == ("12.0", "")
