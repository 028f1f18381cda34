"""CPU of one collection for a large fleet: answers as bytes in, loads out; no network.

    python tests/bench/collector_bench.py --services 10000

Series are identified by service, as for large fleets. The bytes are what Prometheus sends: every
percentile that an objective uses, lengths for one shard of 500 services.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import random
import re
import statistics
import time

import click
import orjson

from penstock.metrics_source.answer import read_instant, read_range
from penstock.metrics_source.base import DEFAULT_LIMITS, QueryLimits, QueryResult, RangeResult
from penstock.metrics_source.catalogue import LENGTHS, PERCENTILES, FleetQuery
from penstock.metrics_source.collector import Collector
from penstock.metrics_source.identity import IdentifyBy, SeriesSettings, Watched
from penstock.metrics_source.plan import plan_tick, shard_of
from penstock.metrics_source.promql import AGE, BEFORE, PODS, RUNNING
from penstock.model.spec import Metric, Mode, Objective, ServiceKey, ServiceSpec, Slo, TargetRef

AT = 1_700_000_000.0
BOUNDS = [f"{each * 10**power:g}" for power in range(5) for each in (1, 2, 5)] + ["+Inf"]
SETTINGS = SeriesSettings(identify_by=IdentifyBy.SERVICE)


class RecordedSource:
    """Parses recorded bytes at each query."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.asked = 0

    async def instant(self, query: str, at: float, limits: QueryLimits = DEFAULT_LIMITS) -> QueryResult:
        """Parse the bytes recorded for `query`."""
        self.asked += 1
        return read_instant(self.answers[query], query, limits)

    async def range(
        self, query: str, *, start: float, end: float, step: float, limits: QueryLimits = DEFAULT_LIMITS
    ) -> RangeResult:
        """Parse the bytes recorded for `query`."""
        return read_range(self.answers[query], query, limits)

    def clock_skew_seconds(self) -> float | None:
        """Return no skew."""
        return 0.0

    async def close(self) -> None:
        """Hold nothing."""


def fleet(count: int) -> list[Watched]:
    """Return services in namespaces of 100, with objectives for p95 TTFT and p95 TPOT."""
    slo = Slo((Objective(Metric.TTFT, 0.95, 0.5), Objective(Metric.TPOT, 0.95, 0.05)))
    services = []
    for number in range(count):
        name = f"service-{number:05}"
        spec = ServiceSpec(
            key=ServiceKey(f"team-{number // 100:03}", name),
            uid=name,
            generation=1,
            mode=Mode.ENFORCE,
            target=TargetRef("apps", "Deployment", name),
            service=None,
            model_names=("m",),
            slo=slo,
        )
        services.append(Watched(spec))
    return services


def labels_of(watched: Watched) -> dict[str, str]:
    """Return the labels of a service's series."""
    return {"namespace": watched.key.namespace, "service": watched.key.name}


def record(services: list[Watched]) -> dict[str, bytes]:
    """Return the answer to every query of the turns that follow one another."""
    draw = random.Random(1)
    answers = {}
    turns = -(-len(services) // SETTINGS.length_shard_services)
    for turn in range(turns):
        (plan,) = plan_tick(services, SETTINGS, turn)
        for query, text in plan.queries.items():
            if not text or text in answers:
                continue
            if query in LENGTHS:
                some = shard_of(services, SETTINGS, turn)
                rows = [(each, {"le": bound}, 1.5 * i) for each in some for i, bound in enumerate(BOUNDS)]
                rows += [(each, {"le": "sum"}, 4000.0) for each in some]
            elif query in PERCENTILES.values():
                parts = re.findall(r'"part", "([0-9.]+)"', text)
                rows = [(each, {"part": part}, draw.random()) for part in parts for each in services]
            elif query is FleetQuery.PULSE:
                parts = [RUNNING, AGE, PODS]
                rows = [(each, {"part": part}, 1 + draw.random()) for part in parts for each in services]
            else:
                rows = [(each, {}, draw.random() * 20) for each in services]
            samples = [
                {"metric": labels_of(each) | more, "value": [AT, repr(value)]} for each, more, value in rows
            ]
            if query is FleetQuery.PULSE:
                samples.append({"metric": {"part": BEFORE}, "value": [AT, "3"]})
            answers[text] = orjson.dumps(
                {"status": "success", "data": {"resultType": "vector", "result": samples}}
            )
    return answers


@click.command(help=__doc__)
@click.option("--services", "count", default=10_000, show_default=True, help="Services of the fleet.")
@click.option("--ticks", default=20, show_default=True, help="Collections to time.")
@click.option("--profile", is_flag=True, help="Print where the time goes.")
def main(count: int, ticks: int, profile: bool) -> None:
    """Print CPU seconds per collection."""
    services = fleet(count)
    answers = record(services)
    source = RecordedSource(answers)
    collector = Collector(source, SETTINGS)

    async def run() -> list[float]:
        seconds = []
        for _ in range(ticks):
            began = time.process_time()
            collected = await collector.collect(services, at=AT)
            loads = [collected[each.key] for each in services]
            seconds.append(time.process_time() - began)
            assert len(loads) == count
            assert all(each.arrival_rate.present for each in loads)
        return seconds

    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    seconds = asyncio.run(run())
    profiler.disable()
    one_tick = {text for text in answers if "_bucket" not in text or "histogram_quantile" in text}
    megabytes = sum(len(answers[text]) for text in one_tick) / 1e6
    print(
        f"services {count}  queries/tick {source.asked / ticks:.0f}  answers {megabytes:.1f} MB  "
        f"CPU per tick: median {statistics.median(seconds):.3f} s  max {max(seconds):.3f} s"
    )
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
