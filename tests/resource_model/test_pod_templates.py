"""A pod template that would fail further on is refused with its path and what to write."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.model.parse import InvalidSpec, parse_service
from penstock.model.parse_workload import MOST_LEVELS

SLO = {"ttft": {"p95": "500ms"}}


def owned(**template: Any) -> dict[str, Any]:
    """A resource with a pod template."""
    pod = {"spec": {"containers": [{"name": "engine"}]}}
    workload = {"type": "Template", "template": pod | template}
    return {"metadata": {"name": "chat"}, "spec": {"workload": workload, "slo": SLO}}


def levels(count: int) -> dict[str, Any]:
    """Return a resource whose template is so many objects deep."""
    inner: dict[str, Any] = {}
    for _ in range(count - 2):
        inner = {"in": inner}
    return owned(other=inner)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (["app"], "metadata: a list instead of an object: write named fields below it"),
        ({"labels": ["app"]}, "metadata.labels: a list instead of an object: write named fields below it"),
        ({"labels": "app=a"}, "metadata.labels: a string instead of an object: write named fields below it"),
        (
            {"labels": {"tier": 1}},
            "metadata.labels.tier: a number instead of a string: write the value in quotes, for example "
            'labels: {tier: "1"}',
        ),
        (
            {"annotations": {"prometheus.io/scrape": True}},
            "metadata.annotations.prometheus.io/scrape: a boolean instead of a string: write the value in "
            'quotes, for example annotations: {prometheus.io/scrape: "true"}',
        ),
    ],
)
def test_labels_and_annotations_are_strings_by_name(metadata: object, words: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_service(owned(metadata=metadata))
    assert str(refused.value) == f"spec.workload.template.{words}"


@pytest.mark.parametrize("metadata", [None, {}, {"labels": None}, {"labels": {"app": "chat", "gone": None}}])
def test_what_is_null_is_not_there(metadata: object) -> None:
    assert parse_service(owned(metadata=metadata)).template is not None


@pytest.mark.parametrize("deep", [MOST_LEVELS + 1, 500, 100_000])
def test_a_template_deeper_than_any_pod_is_refused_however_deep(deep: int) -> None:
    with pytest.raises(InvalidSpec) as refused:
        parse_service(levels(deep))
    assert str(refused.value) == (
        "spec.workload.template: more than 32 objects and lists inside one another: write a pod template as "
        "Deployments have it"
    )


def test_a_template_as_deep_as_may_be_is_read() -> None:
    assert parse_service(levels(MOST_LEVELS)).template is not None
