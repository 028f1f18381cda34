"""How objects of one type enter and leave the cache: from a watch, and from listings that check on it.

A watch can end without a sound (nolar/kopf#1276, #996) and tells nothing of what was deleted meanwhile. A
listing tells, but as of its beginning, page by page, and events go on. Here the newer one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from penstock.kube.api import Resource

log = structlog.get_logger(__name__)
Object = Mapping[str, Any]
Name = tuple[str, str]  # namespace, name


class Feed:
    """The objects of one type, told to `see` and `forget` in an order that makes sense."""

    def __init__(
        self, resource: Resource, see: Callable[[Object], None], forget: Callable[[str, str], None]
    ) -> None:
        self.resource = resource
        self._see, self._forget = see, forget
        self._versions: dict[Name, str] = {}
        self._deleted: set[Name] = set()  # since the latest listing began
        self._unseen: dict[Name, str] = {}  # known when it began, and not listed yet
        self._unread: set[Name] = set()  # a defect of ours met them

    @property
    def known(self) -> int:
        """Return how many objects there are."""
        return len(self._versions)

    @property
    def unread(self) -> int:
        """Return how many of them could not be read."""
        return len(self._unread)

    def see(self, body: Object) -> None:
        """Take in what the watch told of an object, unless something newer is known."""
        name, version = _name(body), _version(body)
        if _is_older(version, self._versions.get(name, "")):
            return
        self._deleted.discard(name)
        self._take(name, version, body)

    def forget(self, body: Object) -> None:
        """Drop an object that the watch told to be deleted, unless its successor is known already."""
        name = _name(body)
        if _is_older(_version(body), self._versions.get(name, "")):
            return
        self._deleted.add(name)
        self._drop(name)

    def begin_listing(self, namespace: str = "") -> None:
        """Begin to list a namespace, all of them by default: newer than whatever is known by now."""
        self._deleted.clear()
        self._unseen = {name: at for name, at in self._versions.items() if namespace in ("", name[0])}

    def see_listed(self, body: Object) -> bool:
        """Take in a listed object; whether the watch had missed it, or its latest change."""
        name, version = _name(body), _version(body)
        before, now = self._unseen.pop(name, None), self._versions.get(name)
        if name in self._deleted or (now != before and _is_older(version, now or "")):
            return False  # the watch has told more since the listing began
        if now == version:
            return False
        self._take(name, version, body)
        return True

    def end_listing(self) -> int:
        """Drop what was known before and is not there any more; return how many objects that were."""
        vanished = [name for name, at in self._unseen.items() if self._versions.get(name) == at]
        for name in vanished:
            self._drop(name)
        self._unseen = {}
        return len(vanished)

    def _take(self, name: Name, version: str, body: Object) -> None:
        """Take in an object. One that cannot be read must not end the operator, now and at each start."""
        self._versions[name] = version
        try:
            self._see(body)
        except Exception as error:
            if name not in self._unread:
                where = "/".join(filter(None, name))
                log.error("an object cannot be read", type=self.resource.plural, name=where, exc_info=error)
            self._unread.add(name)
        else:
            self._unread.discard(name)

    def _drop(self, name: Name) -> None:
        self._versions.pop(name, None)
        self._unread.discard(name)
        self._forget(*name)


def _name(body: Object) -> Name:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(body: Object) -> str:
    return str(body["metadata"].get("resourceVersion", ""))


def _is_older(version: str, known: str) -> bool:
    """Whether a resourceVersion is older than a known one; where they are no numbers nothing is."""
    return version.isdigit() and known.isdigit() and int(version) < int(known)
