"""Services that have some pods in common: each gets all of its own, whoever comes first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from fakes.watched import watched
from penstock.metrics_source.columns import ServiceIndex
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.model.observation import Histogram

ALL, LAST, ALSO_LAST, NEIGHBOUR = (
    watched("all", "p1", "p2", "p3"),
    watched("last", "p3"),
    watched("also-last", "p3"),
    watched("neighbour", "p2", "p4"),
)
PODS = ("p1", "p2", "p3", "p4")
orders = pytest.mark.parametrize(
    "services",
    [
        pytest.param((ALL, LAST, ALSO_LAST, NEIGHBOUR), id="the largest first"),
        pytest.param((LAST, NEIGHBOUR, ALSO_LAST, ALL), id="the largest last"),
    ],
)


def index_of(services: Sequence[Watched]) -> ServiceIndex:
    return ServiceIndex.of(services, SeriesSettings())


def by_name(services: Sequence[Watched], column: Sequence[object]) -> dict[str, object]:
    return dict(zip((each.key.name for each in services), column, strict=True))


def samples(*values: float, **more: str) -> list[tuple[dict[str, str], float]]:
    return [
        ({"namespace": "prod", "pod": pod} | more, value) for pod, value in zip(PODS, values, strict=True)
    ]


@orders
def test_a_sum_has_all_pods_of_a_service_and_no_others(services: Sequence[Watched]) -> None:
    found = by_name(services, index_of(services).total(samples(1.0, 2.0, 4.0, 8.0)))
    assert found == {"all": 7.0, "last": 4.0, "also-last": 4.0, "neighbour": 10.0}


@orders
def test_each_branch_of_a_union_is_summed_so_too(services: Sequence[Watched]) -> None:
    union = [*samples(1.0, 2.0, 4.0, 8.0, part="over"), *samples(10.0, 20.0, 40.0, 80.0, part="under")]
    found = index_of(services).totals_by_part(union)
    assert by_name(services, found["over"])["all"] == 7.0
    assert by_name(services, found["under"])["last"] == 40.0


@orders
def test_the_newest_sample_and_the_count_are_those_of_its_own_pods(services: Sequence[Watched]) -> None:
    ages, index = samples(9.0, 1.0, 5.0, 70.0), index_of(services)
    assert by_name(services, index.least(ages)) == {
        "all": 1.0,
        "last": 5.0,
        "also-last": 5.0,
        "neighbour": 1.0,
    }
    assert by_name(services, index.count_up_to(ages, 60.0)) == {
        "all": 3.0,
        "last": 1.0,
        "also-last": 1.0,
        "neighbour": 1.0,
    }


@orders
def test_quantiles_and_lengths_are_those_of_its_own_pods(services: Sequence[Watched]) -> None:
    index = index_of(services)
    buckets = [
        *samples(10.0, 0.0, 0.0, 0.0, le="1"),
        *samples(10.0, 10.0, 2.0, 0.0, le="2"),
        *samples(10.0, 10.0, 2.0, 0.0, le="+Inf"),
        *samples(10.0, 20.0, 4.0, 0.0, le="sum"),
    ]
    medians = by_name(services, index.quantiles(buckets, [0.5])[0.5])
    assert medians == {"all": pytest.approx(1 + 1 / 12), "last": 1.5, "also-last": 1.5, "neighbour": 1.5}
    lengths, bounds = by_name(services, index.lengths(buckets)), (1.0, 2.0, math.inf)
    assert lengths == {
        "all": Histogram(bounds, (10.0, 12.0, 0.0), 34.0 / 22.0),
        "last": Histogram(bounds, (0.0, 2.0, 0.0), 2.0),
        "also-last": Histogram(bounds, (0.0, 2.0, 0.0), 2.0),
        "neighbour": Histogram(bounds, (0.0, 10.0, 0.0), 2.0),
    }


@orders
def test_a_service_whose_pods_report_nothing_has_nothing(services: Sequence[Watched]) -> None:
    (sample, *_) = samples(1.0, 2.0, 4.0, 8.0)
    found = by_name(services, index_of(services).total([sample]))
    assert found == {"all": 1.0, "last": None, "also-last": None, "neighbour": None}


def test_by_label_resources_on_one_target_have_the_same_buckets_too() -> None:
    chat = watched("chat")
    twin = Watched(watched("twin").spec, series_name="chat")
    index = ServiceIndex.of((chat, twin), SeriesSettings(identify_by=IdentifyBy.SERVICE))
    of_chat = {"namespace": "prod", "service": "chat"}
    found = index.buckets([(of_chat | {"le": "1"}, 3.0), (of_chat | {"le": "+Inf"}, 5.0)])
    assert found == {0: {1.0: 3.0, math.inf: 5.0}, 1: {1.0: 3.0, math.inf: 5.0}}
