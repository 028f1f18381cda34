"""What goes wrong in the policies' benchmark, and which of several runs of it is told."""

from __future__ import annotations

from dataclasses import replace

from bench.policies_adversity import adversities, outages, worst
from bench.policies_llmd import published_profile
from bench.policies_run import Result

RESULT = Result(
    section="e", workload="", policy="kpa", tuning={}, attainment=0.9, replica_hours=3.0, average=6.0,
    scale_events=9, until_seconds=1800.0, ttft_p95_seconds=1.0, tpot_p95_seconds=0.05,
)  # fmt: skip


def test_prometheus_is_gone_from_a_minute_before_each_step_upwards():
    assert outages() == ((270.0, 570.0), (630.0, 930.0), (990.0, 1290.0), (1350.0, 1650.0))
    gone = [load for each in adversities() for load in each.loads if load.scraping.outages]
    assert [(load.name, load.scraping.outages) for load in gone] == [
        (f"Prometheus gone 5 min at {start:.0f} s", ((start, end),)) for start, end in outages()
    ]


def test_every_load_has_a_name_of_its_own_and_the_published_requests():
    loads = [load for each in adversities() for load in each.loads]
    assert len({load.name for load in loads}) == len(loads)
    published = published_profile().arrivals_seconds
    assert all((load.arrivals_seconds == published).all() for load in loads)


def test_the_worst_is_the_least_attainment_and_of_equals_the_dearest():
    poor, dear = replace(RESULT, attainment=0.5), replace(RESULT, attainment=0.5, average=7.0)
    assert worst([RESULT, poor, dear]) is dear
    assert worst([RESULT, poor]) is poor
