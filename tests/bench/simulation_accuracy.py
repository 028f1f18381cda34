"""The simulated engine against a real vLLM, and the simulated pool against published percentiles.

Nothing is fitted here: the profile is the CAL row as shipped. The real runs are redone as they were:
evenly spaced arrivals for 360 s into an empty engine, lengths 0.5 to 1.5 times the mean, and only
requests that were answered within the run are counted.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.dataplane_report import Figure, Goal, print_grid
from penstock.model.profiles import profile_named
from penstock.queueing.domain import FloatArray
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape
from penstock.sim.scenario import IntArray, Objectives, Routing, Scenario, StartUp
from penstock.sim.simulate import simulate
from penstock.sim.static import Static
from penstock.traces.reading import Trace, read_trace

DATA = Path(__file__).parents[1] / "data"
MEASURED = DATA / "measured_openloop_llama31_8b_vllm.csv"
REFERENCE = "llama-3.1-8b-h100"
RUN_SECONDS = 360.0
COLUMNS = ("ttft_p50", "ttft_p95", "itl_mean")
NAMES = ("TTFT p50", "TTFT p95", "inter-token latency")
GOALS_PERCENT = (8.0, 8.0, 6.0)

# theory.md section 3 and queueing-models.md section 3.10: Azure 2023 conversation lengths, Poisson
# arrivals; replicas, rho of saturation, balancer, p95 of TTFT in ms by another simulator.
PUBLISHED = (
    (1, 0.3, Routing.RANDOM, 121), (1, 0.5, Routing.RANDOM, 145), (1, 0.7, Routing.RANDOM, 197),
    (1, 0.9, Routing.RANDOM, 262), (16, 0.9, Routing.RANDOM, 275), (16, 0.9, Routing.ROUND_ROBIN, 166),
    (16, 0.9, Routing.POWER_OF_TWO, 234), (16, 0.9, Routing.LEAST_REQUESTS, 187),
    (16, 0.9, Routing.LEAST_TOKENS, 192),
)  # fmt: skip
REAL_HOUR_MS = (124, 193)  # p95 and p99 there of the real hour, arrivals included, on one replica
PUBLISHED_REQUESTS_PER_REPLICA = 20_000
PUBLISHED_TOLERANCE_PERCENT = 10.0


def scenario_of(
    name: str,
    arrivals: FloatArray,
    inputs: FloatArray | IntArray,
    outputs: FloatArray | IntArray,
    *,
    replicas: int,
    routing: Routing = Routing.LEAST_REQUESTS,
    profile: EngineProfile | None = None,
) -> Scenario:
    """Return a pool of fixed size that gets these requests."""
    return Scenario(
        name=name,
        arrivals_seconds=arrivals,
        input_tokens=np.rint(inputs).astype(np.int64),
        output_tokens=np.rint(outputs).astype(np.int64),
        profile=profile or profile_named(REFERENCE),
        slo=Objectives(0.5, 0.05),
        min_replicas=1,
        max_replicas=replicas,
        initial_replicas=replicas,
        start_up=StartUp(120.0),
        routing=routing,
    )


def conversations() -> Trace:
    """Return a real hour."""
    return read_trace(DATA / "azure23_conv.csv.gz")


def measured_points() -> Iterator[dict[str, str]]:
    """Yield the open-loop rows; closed loops have no rate to repeat."""
    with MEASURED.open() as lines:
        yield from (row for row in csv.DictReader(lines) if row["strategy"].startswith("constant@"))


def experiment(row: dict[str, str]) -> tuple[float, FloatArray]:
    """Return the load of a real run (share of saturation) and our error in % of its three numbers."""
    means, rate = (int(row["in_nom"]), int(row["out_nom"])), float(row["strategy"].removeprefix("constant@"))
    random = np.random.default_rng(1)
    times: IntArray = np.arange(int(RUN_SECONDS * rate))
    lengths = [np.maximum(1, np.rint(random.uniform(0.5 * m, 1.5 * m, times.size))) for m in means]
    run = simulate(scenario_of("measured", times / rate, *lengths, replicas=1), Static(1), seed=1)
    answered = times / rate + run.latency_seconds <= RUN_SECONDS
    ttft, tpot = run.ttft_seconds[answered], run.tpot_seconds[answered]
    ours = np.array([np.median(ttft), np.quantile(ttft, 0.95), np.nanmean(tpot)])
    truth = np.array([float(row[name]) * 1e-3 for name in COLUMNS])
    model = ReplicaModel(profile_named(REFERENCE), TrafficShape.uniform(*means))
    return rate / model.saturation_rate_per_second, 100 * (ours / truth - 1)


def against_measurements() -> list[Figure]:
    """Print every real run and return the median errors."""
    points = [(row, *experiment(row)) for row in measured_points()]
    rows = [
        (f"{row['in_nom']} in, {row['out_nom']} out, {row['strategy']}",
         [f"{load:.2f}", *(f"{value:+.1f}" for value in error)])
        for row, load, error in points
    ]  # fmt: skip
    print_grid(
        f"Real vLLM, Llama-3.1-8B; profile {REFERENCE}: error of the simulation in %",
        ["load", *NAMES],
        rows,
    )
    sizes = np.abs(np.array([error for _, _, error in points]))
    return [
        Figure(
            "real vLLM",
            f"{name}: median error (90 % below {np.quantile(column, 0.9):.1f} %)",
            float(np.median(column)),
            "%",
            f"{len(points)} open-loop runs",
            (Goal.AT_MOST, goal),
        )
        for name, goal, column in zip(NAMES, GOALS_PERCENT, sizes.T, strict=True)
    ]


def against_published() -> list[Figure]:
    """Return the error of TTFT percentiles, for every balancer, against published simulations."""
    hour = conversations()
    shape = TrafficShape.from_lengths(hour.inputs.tolist(), hour.outputs.tolist())
    saturation = ReplicaModel(profile_named(REFERENCE), shape).saturation_rate_per_second
    figures = []
    for replicas, rho, routing, published in PUBLISHED:
        random = np.random.default_rng(5)
        count = PUBLISHED_REQUESTS_PER_REPLICA * replicas
        gaps = random.exponential(1, count)
        arrivals = np.cumsum(gaps / gaps.mean()) / (rho * replicas * saturation)
        drawn = random.integers(0, hour.inputs.size, count)
        pool = scenario_of(
            "published", arrivals, hour.inputs[drawn], hour.outputs[drawn], replicas=replicas, routing=routing
        )
        ttft = simulate(pool, Static(replicas), seed=1).ttft_seconds[count // 5 :]
        figures.append(_figure(f"p95, {replicas} x {routing} at rho {rho}", ttft, 0.95, published))
    alone = scenario_of("hour", hour.arrivals, hour.inputs, hour.outputs, replicas=1)
    ttft = simulate(alone, Static(1), seed=1).ttft_seconds
    for quantile, published in zip((0.95, 0.99), REAL_HOUR_MS, strict=True):
        figures.append(
            _figure(f"p{100 * quantile:.0f}, a real hour on one replica", ttft, quantile, published)
        )
    return figures


def _figure(name: str, ttft: FloatArray, quantile: float, published: float) -> Figure:
    ours = 1e3 * float(np.quantile(ttft, quantile))
    return Figure(
        "another simulation",
        f"TTFT {name}: {ours:.0f} ms, there {published}",
        100 * abs(ours / published - 1),
        "%",
        "conversation lengths",
        (Goal.AT_MOST, PUBLISHED_TOLERANCE_PERCENT),
    )
