"""The figures of `make bench-keda`: integral, scale events, means, and what the machine could not bear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.keda import store
from bench.keda_plot import stored_runs
from bench.keda_report import Period, Run, Seen, replica_seconds, scale_events, spread, values, verdict
from bench.keda_run import DeploymentWatch, read_report
from bench.keda_systems import BenchError, Trial, external_values, inference_service, scaled_object

LOAD = Period(100.0, 200.0)


def seen(*rows: tuple[float, int, int]) -> tuple[Seen, ...]:
    """Return what was seen from (time, target, pods) with all pods ready."""
    return tuple(Seen(at, target, replicas, replicas) for at, target, replicas in rows)


def reported(attained: float) -> dict[str, Any]:
    """Return the part of a load report that figures are read from."""
    return {
        "slo": {"attained_ratio": attained},
        "ttft_seconds": {"p95": 0.5},
        "tpot_seconds": {"p95": None},
        "requests": {"failed": 0},
    }


def a_run(system: str, replicas: int, attained: float | None) -> Run:
    """Return a run with a constant count; None: not trusted."""
    load = None if attained is None else reported(attained)
    return Run(system, 1, LOAD, seen((0, replicas, replicas)), load, "" if load else "late")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(100, 2, 2)], 200),  # never changed
        ([(10, 5, 5), (90, 2, 2)], 200),  # only the last before the load counts
        ([(90, 1, 1), (150, 3, 3)], 200),
        ([(90, 1, 1), (140, 3, 1), (150, 3, 3), (190, 1, 1)], 180),  # a target is not a pod yet
        ([(90, 1, 1), (200, 9, 9), (300, 20, 20)], 100),  # after the load
    ],
)
def test_replica_seconds_are_the_integral_of_the_pods_over_the_load(
    rows: list[tuple[float, int, int]], expected: float
) -> None:
    assert replica_seconds(seen(*rows), LOAD) == expected


def test_a_deployment_that_was_not_seen_before_the_load_has_no_replica_seconds() -> None:
    with pytest.raises(ValueError, match="the Deployment was not seen before the load began"):
        replica_seconds(seen((101, 2, 2)), LOAD)


def test_scale_events_are_changes_of_the_target_within_the_load() -> None:
    rows = [
        (90, 1, 1),
        (95, 2, 1),
        (110, 2, 2),
        (120, 4, 2),
        (121, 4, 4),
        (150, 3, 3),
        (160, 2, 2),
        (250, 1, 1),
    ]
    assert scale_events(seen(*rows), LOAD) == (1, 2)


def test_runs_that_the_machine_could_not_bear_are_in_no_mean() -> None:
    runs = [a_run("KEDA", 2, 0.9), a_run("KEDA", 9, None), a_run("Penstock", 3, 0.99)]
    assert values(runs, "KEDA", "replica-s") == [200.0]
    assert values(runs, "KEDA", "SLO met, %") == [90.0]
    assert verdict(runs, "Penstock", "KEDA") == (
        "Penstock used 1.50 times the replica-seconds of KEDA and met the objectives for 9.0 points more of "
        "the requests."
    )


def test_without_a_trusted_run_there_is_no_verdict() -> None:
    runs = [a_run("KEDA", 2, None), a_run("Penstock", 3, 0.99)]
    assert verdict(runs, "Penstock", "KEDA") == "No verdict: KEDA has no run that could be measured."
    assert verdict(runs[:1], "KEDA", "Penstock") == "No verdict: KEDA has no run that could be measured."


@pytest.mark.parametrize(
    ("found", "expected"), [([], "-"), ([98.04], "98.0"), ([97.0, 99.0, 98.3], "98.1 (97.0 to 99.0)")]
)
def test_a_mean_comes_with_its_range(found: list[float], expected: str) -> None:
    assert spread(found, ".1f") == expected


def test_a_load_that_was_not_reported_is_void_and_says_why() -> None:
    told = "Not reported: steps of the stand-in engines ended late by 12.0% of their duration."
    assert read_report(f"\n{told}\n") == (None, told)
    assert read_report('warning\n{"slo": {}}') == ({"slo": {}}, "")
    with pytest.raises(BenchError, match="the load did not report: Traceback"):
        read_report("Traceback")


def test_a_watch_takes_counts_that_are_absent_for_none() -> None:
    watch = DeploymentWatch()
    watch.take(iter(["1  \n", "3 2 1\n"]))
    assert [(each.target, each.replicas, each.ready) for each in watch.seen] == [(1, 0, 0), (3, 2, 1)]


def test_both_autoscalers_have_the_same_bounds_and_window_and_keda_its_thresholds() -> None:
    peer, ours = scaled_object("a", Trial(queue=3.0, concurrency=4.5)), inference_service("a", Trial())
    triggers = [each["metadata"] for each in peer["spec"]["triggers"]]
    assert [each["threshold"] for each in triggers] == ["3", "4.5"]
    assert all('namespace="a"' in each["query"] and "default" not in each["query"] for each in triggers)
    replicas = ours["spec"]["replicas"]
    assert (peer["spec"]["minReplicaCount"], peer["spec"]["maxReplicaCount"]) == (
        replicas["min"],
        replicas["max"],
    )
    behavior = peer["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert f"{behavior['scaleDown']['stabilizationWindowSeconds'] // 60}m" == replicas["scaleDownWindow"]
    assert peer["spec"]["scaleTargetRef"]["name"] == ours["spec"]["workload"]["targetRef"]["name"]


def test_a_trial_knows_what_is_due_when() -> None:
    trial = Trial(rates="2:35,6:60")
    assert trial.load_seconds == 95
    assert [trial.rate_at(at) for at in (0, 34.9, 35, 94, 95)] == [2, 2, 6, 6, 0]


def test_stored_runs_are_read_as_they_were(tmp_path: Path) -> None:
    runs, trial = [a_run("KEDA", 2, 0.9), a_run("Penstock", 3, None)], Trial(queue=3.0)
    store(runs, trial, tmp_path / "new")
    assert stored_runs(tmp_path / "new" / "runs.jsonl") == (runs, trial)


def test_an_hpa_that_has_not_read_a_metric_has_no_value_for_it() -> None:
    read = {"external": {"metric": {"name": "s0"}, "current": {"averageValue": "2500m"}}}
    status = {"currentMetrics": [read, {"type": ""}, {"external": {"metric": {"name": "s1"}, "current": {}}}]}
    assert external_values({"status": status}) == {"s0": 2.5}
    assert external_values({}) == external_values({"status": {"currentMetrics": None}}) == {}
