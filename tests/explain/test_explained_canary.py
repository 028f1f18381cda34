"""A canary that the operator itself has tried: what explain and the metrics tell of it."""

from __future__ import annotations

import io

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from fakes.canary_specs import SLOW, template
from fakes.canary_world import CanaryWorld, serving
from penstock.cli.explain_output import print_explained
from penstock.cli.explain_read import live_of
from penstock.telemetry.fleet_metrics import fleet_exposition


@pytest.fixture
async def rolled_back() -> CanaryWorld:
    """A world whose slow canary has just been rolled back."""
    world = await serving()
    world.change(workload={"template": template(SLOW)})
    await world.until(lambda: world.phase == "RolledBack", within=400)
    return world


async def test_the_evidence_that_ended_a_canary_is_explained(rolled_back: CanaryWorld) -> None:
    world, out = rolled_back, io.StringIO()
    live = live_of(world.cluster.objects["InferenceService", "chat"])
    print_explained(live, "not asked for", Console(file=out, width=200), world.now)
    lines = out.getvalue().splitlines()
    start = lines.index("Canary")
    canary = world.status["canary"]
    assert lines[start + 1].startswith("  RolledBack, for ")
    assert lines[start + 1].endswith(f": revision {canary['revision']} against {canary['stableRevision']}")
    assert lines[start + 2].startswith(f"  TTFTRegressed: revision {canary['revision']} was rolled back")
    (ttft,) = [line.split() for line in lines if line.startswith("ttft > ")]
    assert ttft[-1] == "worse"
    (row,) = [each for each in canary["rows"] if each["metric"] == "ttft"]
    assert " ".join(ttft).startswith(
        f"ttft > {row['edge']} {row['stableBad']} of {row['stableRequests']} "
        f"{row['canaryBad']} of {row['canaryRequests']} {row['ratio']} ({row['interval']})"
    )


async def test_its_metrics_show_the_phase_the_reason_and_the_counts(rolled_back: CanaryWorld) -> None:
    text = (await fleet_exposition(rolled_back.loop.samples())).decode()
    shown = {
        (sample.name, *sorted((k, v) for k, v in sample.labels.items() if k not in ("namespace", "name"))):
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip
    assert shown["penstock_canary_phase", ("phase", "RolledBack")] == 1
    assert shown["penstock_service_decision", ("kind", "canary"), ("reason", "TTFTRegressed")] == 1
    assert shown["penstock_canary_weight_percent",] == 0
    row = next(each for each in rolled_back.status["canary"]["rows"] if each["metric"] == "ttft")
    canary_requests = shown["penstock_canary_judged_requests", ("arm", "canary"), ("metric", "ttft")]
    assert canary_requests == row["canaryRequests"]
    worse = ("hypothesis", "worse"), ("metric", "ttft")
    assert (
        shown["penstock_canary_evidence_log10", *worse]
        >= shown["penstock_canary_evidence_threshold_log10", *worse]
    )


async def test_a_service_that_is_deleted_takes_its_metrics_along(rolled_back: CanaryWorld) -> None:
    rolled_back.cache.forget_service("prod", "chat")
    await rolled_back.loop.tick(rolled_back.now)
    text = (await fleet_exposition(rolled_back.loop.samples())).decode()
    assert [line for line in text.splitlines() if "prod" in line] == []
