"""A revision is the content of a pod template, and nothing else."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.model.references import TargetRef
from penstock.model.revision import owned_target, template_revision, workload_template

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "chat", "tier": "gpu"}},
    "spec": {
        "containers": [{"name": "engine", "image": "registry.example/vllm:1", "args": ["--model", "m"]}]
    },
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
templates = st.dictionaries(st.text(max_size=5), values, max_size=5)


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same content with its keys in another order."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(each, rng) for each in value] if isinstance(value, list) else value


@given(templates, st.integers())
def test_the_order_of_keys_does_not_matter(template: dict[str, Any], seed: int) -> None:
    assert template_revision(shuffled(template, random.Random(seed))) == template_revision(template)


@given(templates)
def test_a_revision_is_a_label_and_the_end_of_a_name(template: dict[str, Any]) -> None:
    assert re.fullmatch(r"[b-df-hj-np-tv-xz24-9]{10}", template_revision(template))


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"containers": [{"name": "engine", "image": "registry.example/vllm:2"}]}},
        {"metadata": {"labels": {"app": "chat"}}},
        {"metadata": {"labels": {"app": "chat", "tier": "gpu"}, "annotations": {"restartedAt": "now"}}},
    ],
)
def test_other_content_is_another_revision(change: dict[str, Any]) -> None:
    assert template_revision(TEMPLATE | change) != template_revision(TEMPLATE)


def test_the_order_of_a_list_is_content() -> None:
    swapped = {"spec": {"containers": [{"name": "engine", "args": ["m", "--model"]}]}}
    same = {"spec": {"containers": [{"name": "engine", "args": ["--model", "m"]}]}}
    assert template_revision(swapped) != template_revision(same)


def test_null_is_absent() -> None:
    with_nulls = TEMPLATE | {"spec": TEMPLATE["spec"] | {"nodeSelector": None}, "status": None}
    assert template_revision(with_nulls) == template_revision(TEMPLATE)


def test_a_revision_stays_what_it_was_in_earlier_releases() -> None:
    """Another name for the same template would be a canary of nothing in every cluster at once."""
    assert template_revision(TEMPLATE) == "9m7chr6rdl"


def test_a_template_is_given_back_as_it_was() -> None:
    template = workload_template(TEMPLATE)
    assert template.body() == TEMPLATE
    template.body()["spec"].clear()
    assert template.body() == TEMPLATE
    assert owned_target("chat", "bcdfghjklm") == TargetRef("apps", "Deployment", "chat-bcdfghjklm")
