"""Lists and watches of the fake API, as bytes.

A list in pages continues after the last key it gave, at the version of its first page: what changed
between pages is told by the watch that starts there. A watch from a version that the history no
longer has ends with 410, as after etcd's compaction.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping

import orjson

from penstock.sandbox import fake_errors as errors
from penstock.sandbox.fake_selectors import selects
from penstock.sandbox.fake_store import Entry, FakeStore, Key, Matches, Watcher
from penstock.sandbox.fake_types import ResourceType


def list_bytes(store: FakeStore, kind: ResourceType, namespace: str, query: Mapping[str, str]) -> bytes:
    """Return a list, or the page of it that `limit` and `continue` ask for."""
    matches = selector_of(query, namespace)
    limit = int(query.get("limit") or 0)
    after, version = _continued(query.get("continue", ""), store.version)
    page: list[Entry] = []
    more = False
    for entry in store.entries(kind, namespace, after=after):
        if not matches(entry):
            continue
        if limit and len(page) == limit:
            more = True
            break
        page.append(entry)
    metadata = {"resourceVersion": str(version)}
    if more:
        token = orjson.dumps([version, *page[-1].key])
        metadata["continue"] = base64.urlsafe_b64encode(token).decode()
    head = {"kind": f"{kind.resource.kind}List", "apiVersion": kind.api_version, "metadata": metadata}
    items = b",".join([entry.raw for entry in page])
    return orjson.dumps(head)[:-1] + b',"items":[' + items + b"]}"


def selector_of(query: Mapping[str, str], namespace: str) -> Matches:
    """Return the test of a request's selectors and namespace ("": all)."""
    matches = selects(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    if not namespace:
        return matches
    return lambda entry: entry.key[0] == namespace and matches(entry)


async def watch_chunks(
    store: FakeStore,
    kind: ResourceType,
    matches: Matches,
    *,
    version: str,
    bookmark_seconds: float,
    watcher: Watcher,
) -> AsyncIterator[bytes]:
    """Yield watch events, several in a chunk where several came; `bookmark_seconds` 0: no bookmarks.

    Ends when `watcher` is ended; whoever iterates adds and removes it, and keeps the time-out.
    """
    if version in ("", "0"):
        start = [
            b'{"type":"ADDED","object":' + each.raw + b"}\n" for each in store.entries(kind) if matches(each)
        ]
        if start:
            yield b"".join(start)
    else:
        past = store.since(kind, int(version)) if version.isdigit() else None
        if past is None:
            status = errors.expired(f"too old resource version: {version}").to_dict()
            yield orjson.dumps({"type": "ERROR", "object": status}) + b"\n"
            return
        events = [event for change in past if (event := change.event(matches))]
        if events:
            yield b"".join(events)
    while not watcher.ended:
        changes = await watcher.wait(bookmark_seconds or 60.0)
        if changes:
            events = [event for change in changes if (event := change.event(matches))]
            if events:
                yield b"".join(events)
        elif bookmark_seconds and not watcher.ended:
            yield _bookmark(kind, store.version)


def _bookmark(kind: ResourceType, version: int) -> bytes:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    body = {"kind": kind.resource.kind, "apiVersion": kind.api_version, "metadata": metadata}
    return orjson.dumps({"type": "BOOKMARK", "object": body}) + b"\n"


def _continued(token: str, version: int) -> tuple[Key | None, int]:
    if not token:
        return None, version
    try:
        first_version, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        raise errors.bad_request("continue key is not valid") from None
    return (namespace, name), first_version
