"""Which resource a kind is served as: the API server's group and version documents.

The preferred version is asked first, then the others: a group may serve a kind in an older one only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping

from penstock.kube.api import NotFound, Object, Resource

# A CRD may drop a version while we run; 10 min is how long a stale answer can last.
LIFETIME_SECONDS = 600.0
GROUP = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class Discovery:
    """Kinds by group, asked from the API server when first needed and kept for 10 min."""

    def __init__(
        self,
        get: Callable[[str], Awaitable[Object]],
        built_in: Mapping[tuple[str, str], Resource],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get = get
        self._built_in = dict(built_in)
        self._monotonic = monotonic
        self._found: dict[tuple[str, str], tuple[float, Resource]] = {}

    async def find(self, group: str, kind: str) -> Resource:
        """Return the resource that serves a kind; `group` is empty for the core API.

        Raises `NotFound` if the API server does not know it, else as `get` does.
        """
        key = (group, kind)
        if key in self._built_in:
            return self._built_in[key]
        known = self._found.get(key)
        if known is not None and self._monotonic() < known[0]:
            return known[1]
        found = await self._ask(group, kind)
        self._found[key] = (self._monotonic() + LIFETIME_SECONDS, found)
        return found

    async def _ask(self, group: str, kind: str) -> Resource:
        unknown = NotFound(f"the API server serves no kind {kind!r} in group {group!r}", status=404)
        if group and not GROUP.fullmatch(group):
            raise unknown
        try:
            versions = _versions(await self._get(f"/apis/{group}")) if group else ["v1"]
        except NotFound:
            raise unknown from None
        for version in versions:
            base = f"/apis/{group}/{version}" if group else f"/api/{version}"
            for entry in (await self._get(base)).get("resources") or ():
                # Subresources such as deployments/scale have kinds of their own.
                if entry.get("kind") == kind and "/" not in entry["name"]:
                    return Resource(group, version, entry["name"], kind)
        raise unknown


def _versions(group: Object) -> list[str]:
    preferred = (group.get("preferredVersion") or {}).get("version")
    served = [entry["version"] for entry in group.get("versions") or ()]
    return sorted(served, key=lambda version: version != preferred)
