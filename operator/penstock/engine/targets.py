"""Where requests go: a set of URLs that may change, and the balancer that picks one.

With a file of URLs the set follows the file as a Service follows its endpoints: read again when it
changes; an empty file means that nobody is there, which is an error of the request, not of the load.
"""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum
from pathlib import Path


class Balancing(StrEnum):
    """How a URL is picked; `random` is what kube-proxy does."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    LEAST_REQUESTS = "least-requests"


class Targets:
    """The URLs in force and how many requests are outstanding at each."""

    def __init__(
        self, urls: tuple[str, ...], *, file: Path | None, balancing: Balancing, chance: random.Random
    ) -> None:
        self._fixed = urls
        self._file = file
        self._balancing = balancing
        self._chance = chance
        self._turn = 0
        self._stamp: tuple[int, int] | None = None
        self._from_file: tuple[str, ...] = ()
        self.outstanding: Counter[str] = Counter()

    def refresh(self) -> None:
        """Read the file again if it changed; a file that is not there is an empty set."""
        if self._file is None:
            return
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            text = self._file.read_text()
        except FileNotFoundError:
            self._stamp, self._from_file = None, ()
            return
        lines = (line.strip() for line in text.splitlines())
        self._from_file = tuple(line.rstrip("/") for line in lines if line and not line.startswith("#"))
        self._stamp = stamp

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that requests may go to now."""
        return self._fixed + self._from_file

    def take(self) -> str | None:
        """Pick a URL and count a request on it; None when there is none. Pair with `release`."""
        urls = self.urls
        if not urls:
            return None
        if self._balancing is Balancing.RANDOM:
            url = self._chance.choice(urls)
        elif self._balancing is Balancing.ROUND_ROBIN:
            url = urls[self._turn % len(urls)]
            self._turn += 1
        else:
            fewest = min(self.outstanding[url] for url in urls)
            url = self._chance.choice([url for url in urls if self.outstanding[url] == fewest])
        self.outstanding[url] += 1
        return url

    def release(self, url: str) -> None:
        """Uncount a request."""
        self.outstanding[url] -= 1
        if not self.outstanding[url]:
            del self.outstanding[url]
