"""What a watch and a listing tell of the same objects, in any order, ends as the API server has it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from penstock.controller.feed import Feed
from penstock.kube.api import SERVICES, Object


def body(version: int, name: str = "chat") -> Object:
    return {"metadata": {"namespace": "prod", "name": name, "resourceVersion": str(version)}}


class Seen:
    """A feed into a dictionary of versions."""

    def __init__(self, *known: Object) -> None:
        self.objects: dict[str, int] = {}
        self.feed = Feed(SERVICES, self._see, lambda _, name: self.objects.pop(name, None) and None)
        for each in known:
            self.feed.see(each)

    def _see(self, seen: Object) -> None:
        self.objects[seen["metadata"]["name"]] = int(seen["metadata"]["resourceVersion"])


def test_an_event_that_is_older_than_what_is_known_changes_nothing() -> None:
    seen = Seen(body(5))
    seen.feed.see(body(4))
    assert seen.objects == {"chat": 5}


def test_the_late_news_of_a_deletion_does_not_drop_the_successor() -> None:
    seen = Seen(body(9))
    seen.feed.forget(body(7))
    assert seen.objects == {"chat": 9}
    seen.feed.forget(body(10))
    assert seen.objects == {}


def test_a_page_that_is_older_than_an_event_since_the_listing_began_changes_nothing() -> None:
    seen = Seen(body(5))
    seen.feed.begin_listing()
    seen.feed.see(body(8))
    assert not seen.feed.see_listed(body(6))
    assert (seen.feed.end_listing(), seen.objects) == (0, {"chat": 8})


def test_what_is_deleted_between_the_page_and_its_reading_stays_deleted() -> None:
    seen = Seen(body(5))
    seen.feed.begin_listing()
    seen.feed.forget(body(6))
    assert not seen.feed.see_listed(body(5))
    assert (seen.feed.end_listing(), seen.objects) == (0, {})


def test_what_comes_after_the_listing_began_is_not_dropped_at_its_end() -> None:
    seen = Seen(body(5))
    seen.feed.begin_listing()
    seen.feed.see(body(7, "new"))
    seen.feed.forget(body(8))
    seen.feed.see(body(9))
    assert (seen.feed.end_listing(), seen.objects) == (0, {"chat": 9, "new": 7})


def test_a_listing_of_one_namespace_drops_nothing_of_another() -> None:
    seen = Seen(body(5))
    seen.feed.begin_listing("team")
    assert (seen.feed.end_listing(), seen.objects, seen.feed.known) == (0, {"chat": 5}, 1)


def test_after_a_restored_backup_the_listing_is_right_though_its_versions_are_older() -> None:
    seen = Seen(body(500), body(510, "lost"))
    seen.feed.begin_listing()
    assert seen.feed.see_listed(body(200))
    assert (seen.feed.end_listing(), seen.objects) == (1, {"chat": 200})


def test_an_object_that_cannot_be_read_is_counted_and_logged_once_and_stops_no_other() -> None:
    seen, broken = Seen(), {"metadata": {"namespace": "prod", "name": "odd", "resourceVersion": "4th"}}
    with capture_logs() as logs:
        seen.feed.see(broken)
        seen.feed.see(broken)
    seen.feed.see(body(5))
    assert (seen.objects, seen.feed.known, seen.feed.unread) == ({"chat": 5}, 2, 1)
    assert [(each["event"], each["type"], each["name"]) for each in logs] == [
        ("an object cannot be read", "services", "prod/odd")
    ]
    seen.feed.see(body(6, "odd"))
    assert seen.feed.unread == 0, "it was corrected"
    seen.feed.see(broken)
    seen.feed.forget(body(7, "odd"))
    assert seen.feed.unread == 0, "or is gone"


NAMES = ("a", "b", "c")


@given(
    st.lists(
        st.sampled_from(["change", "delete"]).flatmap(
            lambda verb: st.tuples(st.just(verb), st.sampled_from(NAMES))
        ),
        max_size=12,
    ),
    st.data(),
)
def test_whatever_events_are_lost_a_listing_ends_with_what_there_is(
    history: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Before the listing any event may be lost; since it began all come, between its pages or around them."""
    seen, there, events = Seen(), dict[str, int](), list[tuple[str, Object]]()
    begins = data.draw(st.integers(0, len(history)))
    snapshot: dict[str, int] = {}
    for number, (verb, name) in enumerate(history):
        if number == begins:
            snapshot = dict(there)
        if verb == "delete" and there.pop(name, None) is None:
            continue
        if verb == "change":
            there[name] = number + 1
        told = ("forget" if verb == "delete" else "see", body(number + 1, name))
        if number >= begins:
            events.append(told)
        elif data.draw(st.booleans()):
            getattr(seen.feed, told[0])(told[1])
    if begins == len(history):
        snapshot = dict(there)
    seen.feed.begin_listing()
    pages = [body(version, name) for name, version in snapshot.items()]
    while pages or events:
        if pages and (not events or data.draw(st.booleans())):
            seen.feed.see_listed(pages.pop())
        else:
            verb, about = events.pop(0)
            getattr(seen.feed, verb)(about)
    seen.feed.end_listing()
    assert seen.objects == there
