"""The arms' queries as PromQL, for all services of one engine together: few, however many canaries.

A counter is taken while its newest sample is fresh: Prometheus shows one for 5 minutes after a scrape
that was not even tried. Names of pods are matched by a regular expression of bounded length; more pods
are asked for in further queries at the same instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.metrics_source.arm_series import EndedSeries
from penstock.metrics_source.arm_types import Arm, ArmsWanted
from penstock.metrics_source.identity import SeriesSettings, quoted

# Twice in a query: about 10 KB. 100 pods with names of 40 characters make one chunk.
CHUNK_CHARACTERS = 4096
_POD_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class PodChunk:
    """Pods that one query asks for, and their namespaces."""

    namespaces: tuple[str, ...]
    pods: tuple[str, ...]


def chunks_of(wanted: Sequence[ArmsWanted], characters: int = CHUNK_CHARACTERS) -> list[PodChunk]:
    """Split the pods of both arms of all services into chunks of about so many characters of names.

    A query names namespaces and pods apart, so it may match a namesake in another namespace: the answer
    is read by both labels.
    """
    chunks: list[PodChunk] = []
    namespaces: dict[str, None] = {}
    pods: dict[str, None] = {}
    length = 0
    for each in sorted(wanted, key=lambda each: (each.key.namespace, each.key.name)):
        for pod in sorted(each.stable_pods | each.canary_pods):
            more = len(pod) + 1 if pod not in pods else 0
            more += len(each.key.namespace) + 1 if each.key.namespace not in namespaces else 0
            if pods and length + more > characters:
                chunks.append(PodChunk(tuple(namespaces), tuple(pods)))
                namespaces, pods, length = {}, {}, 0
                more = len(pod) + len(each.key.namespace) + 2
            namespaces[each.key.namespace] = pods[pod] = None
            length += more
    if pods:
        chunks.append(PodChunk(tuple(namespaces), tuple(pods)))
    return chunks


@dataclass(frozen=True, slots=True)
class ArmQueryWriter:
    """Writes the queries for one chunk of pods."""

    settings: SeriesSettings
    chunk: PodChunk

    def ended(self, series: EndedSeries) -> str:
        """Return the query for ended requests by pod and reason."""
        return self._sum(f"{series.selector}{self._more(series.selector)}}}", series.reason_label)

    def buckets(self, histogram: str) -> str:
        """Return the query for a histogram's buckets by pod and upper edge."""
        return self._sum(f"{histogram}_bucket{{{self._matchers}}}", "le")

    @property
    def _matchers(self) -> str:
        settings = self.settings
        names = (
            f"{settings.namespace_label}=~{quoted(_any_of(self.chunk.namespaces))}",
            f"{settings.pod_label}=~{quoted(_any_of(self.chunk.pods))}",
        )
        return ",".join((*settings.promql_matchers, *names))

    def _more(self, selector: str) -> str:
        return self._matchers if selector.endswith("{") else f",{self._matchers}"

    def _sum(self, selector: str, label: str) -> str:
        settings = self.settings
        fresh = f"{selector} unless (time() - timestamp({selector}) > {settings.stale_after_seconds:g})"
        return f"sum by ({settings.namespace_label}, {settings.pod_label}, {label}) ({fresh})"


def arm_pattern(wanted: ArmsWanted, arm: Arm) -> str:
    """Return the regular expression of an arm's pods as users' queries get it; "" where it has none.

    A dot is written ``[.]``: nothing in it means anything to any of PromQL's three kinds of strings. What
    is no name of a pod is left out.
    """
    names = [pod.replace(".", "[.]") for pod in sorted(wanted.pods(arm)) if _POD_NAME.fullmatch(pod)]
    return f"(?:{'|'.join(names)})" if names else ""


def _any_of(names: Iterable[str]) -> str:
    # Escaped as little as possible: Prometheus looks a plain alternation up as a set.
    return "|".join(re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", name) for name in names)
