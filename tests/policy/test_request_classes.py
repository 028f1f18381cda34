"""Request classes: who is shed first, and what is wrong with a list of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.traffic import BATCH, INTERACTIVE
from penstock.model.spec import AdmissionSpec, RequestClass
from penstock.model.traffic import ClassShare
from penstock.policy.request_classes import admission_refusal, class_shares


def spec(*classes: RequestClass, default: str = "batch") -> AdmissionSpec:
    return AdmissionSpec(class_header="x-request-class", default_class=default, classes=classes)


def test_the_highest_priority_comes_first_with_the_most() -> None:
    assert class_shares(spec(BATCH, INTERACTIVE)) == (
        ClassShare("interactive", 100, 1.0),
        ClassShare("batch", 0, 0.7),
    )


def test_without_percentages_a_priority_still_means_something() -> None:
    shares = class_shares(spec(RequestClass("batch", 0), RequestClass("interactive", 100)))
    assert [(each.name, each.ratio) for each in shares] == [("interactive", 1.0), ("batch", 0.95)]


def test_a_lower_class_gets_no_more_than_the_one_above_whatever_is_written() -> None:
    shares = class_shares(spec(RequestClass("batch", 0, 90), RequestClass("interactive", 100, 50)))
    assert [(each.name, each.ratio) for each in shares] == [("interactive", 0.5), ("batch", 0.45)]


@given(
    st.lists(
        st.tuples(st.integers(-1000, 1000), st.integers(1, 100)),
        min_size=1,
        max_size=16,
        unique_by=lambda each: each[0],
    )
)
def test_every_class_may_enter_and_a_higher_one_is_never_shed_before_a_lower(
    drawn: list[tuple[int, int]],
) -> None:
    classes = [RequestClass(f"c{k}", *each) for k, each in enumerate(drawn)]
    shares = class_shares(spec(*classes, default="c0"))
    assert [each.priority for each in shares] == sorted((each[0] for each in drawn), reverse=True)
    assert all(0 < each.ratio <= 1 for each in shares)
    assert all(upper.ratio >= lower.ratio for upper, lower in pairwise(shares))


def test_no_classes_are_no_classes() -> None:
    assert class_shares(AdmissionSpec()) == ()
    assert admission_refusal(AdmissionSpec()) is None


@pytest.mark.parametrize(
    ("admission", "reason", "message"),
    [
        (
            spec(RequestClass("a", 5), RequestClass("b", 5), BATCH),
            "EqualPriorities",
            "admission.classes a and b all have priority 5: give each its own, the highest is shed last",
        ),
        (
            spec(BATCH, INTERACTIVE, default="bulk"),
            "UnknownDefaultClass",
            "admission.defaultClass bulk is not among admission.classes: name one of batch, interactive",
        ),
        (
            spec(default="bulk"),
            "UnknownDefaultClass",
            "admission.defaultClass bulk is not among admission.classes: list it in admission.classes",
        ),
        (
            spec(BATCH, INTERACTIVE, default=""),
            "UnknownDefaultClass",
            "admission.classes needs admission.defaultClass, for requests that name no class: "
            "name one of batch, interactive",
        ),
    ],
)
def test_what_is_refused_says_what_to_write(admission: AdmissionSpec, reason: str, message: str) -> None:
    refusal = admission_refusal(admission)
    assert refusal is not None
    assert (refusal[0].value, refusal[1]) == (reason, message)
    assert class_shares(admission) == ()  # then all requests are alike
