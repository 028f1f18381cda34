"""The index of selectors against going through all of them."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from penstock.controller.selectors import ServiceSelectors

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)
CHANGES = st.lists(
    st.tuples(st.sampled_from(["prod", "test"]), st.sampled_from("klmn"), st.none() | LABELS), max_size=20
)


@given(CHANGES, LABELS)
def test_the_index_finds_what_a_search_through_all_selectors_finds(
    changes: list[tuple[str, str, dict[str, str] | None]], labels: dict[str, str]
) -> None:
    index, known = ServiceSelectors(), dict[tuple[str, str], dict[str, str]]()
    for namespace, name, selector in changes:
        if selector is None:
            index.drop(namespace, name)
            known.pop((namespace, name), None)
        else:
            index.put(namespace, name, selector)
            known[namespace, name] = selector
    for namespace in ("prod", "test"):
        expected = sorted(
            name
            for (where, name), selector in known.items()
            if where == namespace and selector and selector.items() <= labels.items()
        )
        assert index.selecting(namespace, labels) == expected


def test_ten_thousand_services_that_share_a_label_are_told_apart_by_the_other() -> None:
    index, began = ServiceSelectors(), time.process_time()
    for number in range(10_000):
        index.put("prod", f"chat-{number}", {"part-of": "fleet", "app": f"chat-{number}"})
    for number in range(10_000):
        labels = {"part-of": "fleet", "app": f"chat-{number}", "hash": "1"}
        assert index.selecting("prod", labels) == [f"chat-{number}"]
    assert time.process_time() - began < 5.0, "0.1 s as measured; going through all takes a minute"
