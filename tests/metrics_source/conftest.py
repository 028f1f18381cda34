"""One Prometheus for the tests that only read: engines' expositions, scraped for some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.prometheus_fixture import prometheus, prometheus_binary, wait_until
from fakes.replayed_engine import ENGINES, LLAMA_CPP, VLLM, ReplayedEngine
from penstock.sandbox.prometheus import PrometheusProcess, ScrapeTarget

__all__ = ["prometheus", "prometheus_binary"]

# The engines of the scraped fleet: pod -> (exposition, pace of its counters).
FLEET: dict[str, tuple[Path, float]] = {
    "chat-1": (VLLM, 1.0),
    "chat-2": (VLLM, 0.5),
    "idle-1": (VLLM, 0.0),
    "llama-1": (LLAMA_CPP, 1.0),
    "sgl-1": (ENGINES / "sglang-from-source.txt", 1.0),
    "tgi-1": (ENGINES / "tgi-from-source.txt", 1.0),
}
WINDOW_SECONDS = 4.0
# All that engines expose whose counters appear with the first request.
GAUGES = ("sglang:num_running", "sglang:num_queue", "tgi_batch", "tgi_queue")


@dataclass(frozen=True)
class ScrapedFleet:
    """A Prometheus whose rate window is full, and the engines behind it."""

    prometheus: PrometheusProcess
    engines: dict[str, ReplayedEngine]

    @property
    def now(self) -> float:
        """An instant with fresh samples."""
        return time.time()


@pytest.fixture(scope="session")
def fleet(prometheus_binary: Path) -> Iterator[ScrapedFleet]:
    """Every engine once or more, in namespace prod; chat-1 also as poison in namespace other."""
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
        process = stack.enter_context(
            PrometheusProcess(scrape_interval_seconds=0.5, binary=prometheus_binary)
        )
        targets = [
            ScrapeTarget(engine.address, {"namespace": "prod", "pod": pod, "service": pod.rpartition("-")[0]})
            for pod, engine in engines.items()
        ]
        poison = ScrapeTarget(
            engines["chat-1"].address, {"namespace": "other", "pod": "chat-1", "service": "chat"}
        )
        process.set_targets([*targets, poison])
        # Both rates over the window and what was there when it began.
        filled = f"count_over_time(up[{WINDOW_SECONDS:g}s]) >= {2 * WINDOW_SECONDS:g}"
        wait_until(process, f"count({filled} and up offset {WINDOW_SECONDS:g}s) == {len(engines) + 1}")
        yield ScrapedFleet(process, engines)
