"""A small fleet of replayed engines behind a real Prometheus whose rate window is full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import ENGINES, LLAMA_CPP, VLLM, ReplayedEngine
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings
from penstock.metrics_source.prometheus_http import PrometheusHttp
from penstock.sandbox.prometheus import PrometheusProcess, ScrapeTarget

WINDOW_SECONDS = 4.0
# pod -> (exposition, pace of its counters); the service label is the name without its number.
FLEET: dict[str, tuple[Path, float]] = {
    "chat-1": (VLLM, 1.0),
    "chat-2": (VLLM, 0.5),
    "idle-1": (VLLM, 0.0),
    "llama-1": (LLAMA_CPP, 1.0),
    "sgl-1": (ENGINES / "sglang-from-source.txt", 1.0),
    "tgi-1": (ENGINES / "tgi-from-source.txt", 1.0),
}
# All that engines expose whose counters appear with the first request.
GAUGES = ("sglang:num_running", "sglang:num_queue", "tgi_batch", "tgi_queue")


@dataclass(frozen=True)
class ScrapedFleet:
    """The Prometheus and the engines behind it, by pod."""

    prometheus: PrometheusProcess
    engines: dict[str, ReplayedEngine]

    @property
    def now(self) -> float:
        """An instant with fresh samples."""
        return time.time()


@contextmanager
def scraped_fleet(binary: Path) -> Iterator[ScrapedFleet]:
    """Serve and scrape every engine in namespace prod; chat-1 also as namespace other's."""
    with ExitStack() as stack:
        engines = {
            pod: stack.enter_context(
                ReplayedEngine(path.read_text(), pace=pace, waiting_growth=0.5 if pod == "chat-1" else 0.0)
            )
            for pod, (path, pace) in FLEET.items()
        }
        for pod, like in (("sgl-new-1", "sgl-1"), ("tgi-new-1", "tgi-1")):
            text = "\n".join(each for each in engines[like].text.splitlines() if each.startswith(GAUGES))
            engines[pod] = stack.enter_context(ReplayedEngine(text, pace=0.0))
        process = stack.enter_context(PrometheusProcess(scrape_interval_seconds=0.5, binary=binary))
        process.set_targets(
            [
                *(target(engine, pod) for pod, engine in engines.items()),
                target(engines["chat-1"], "chat-1", namespace="other"),
            ]
        )
        # Both rates over the window and what was there when it began.
        filled = f"count_over_time(up[{WINDOW_SECONDS:g}s]) >= {2 * WINDOW_SECONDS:g}"
        wait_until(process, f"count({filled} and up offset {WINDOW_SECONDS:g}s) == {len(engines) + 1}")
        yield ScrapedFleet(process, engines)


def target(engine: ReplayedEngine, pod: str, *, namespace: str = "prod") -> ScrapeTarget:
    """Return the scrape target of a pod, with the labels that a ServiceMonitor writes."""
    return ScrapeTarget(
        engine.address, {"namespace": namespace, "pod": pod, "service": pod.rpartition("-")[0]}
    )


def quick_settings(identify_by: IdentifyBy = IdentifyBy.POD) -> SeriesSettings:
    """Return settings for scrapes twice a second."""
    return SeriesSettings(
        identify_by=identify_by,
        scrape_interval_seconds=0.5,
        rate_window_seconds=WINDOW_SECONDS,
        stale_after_seconds=3.0,
        length_window_seconds=WINDOW_SECONDS,
    )


def collector_for(
    process: PrometheusProcess, identify_by: IdentifyBy = IdentifyBy.POD
) -> tuple[Collector, PrometheusHttp]:
    """Return a collector on a real Prometheus, and its source, to be closed."""
    source = PrometheusHttp(Connection(process.url))
    return Collector(source, quick_settings(identify_by)), source
