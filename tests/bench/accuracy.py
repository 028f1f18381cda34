"""Accuracy of the engine model: against real measurements, and against a token-by-token simulation.

    python tests/bench/accuracy.py              both tables
    python tests/bench/accuracy.py measured     only the real vLLM (a minute)
    python tests/bench/accuracy.py simulated    only the simulation (a quarter of an hour)

Nothing is fitted: the profile is the CAL row as shipped.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.engine_des import simulate
from penstock.model.profiles import profile_named
from penstock.queueing.balancer import Arrivals, Balancer
from penstock.queueing.distribution import Distribution
from penstock.queueing.domain import FloatArray
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape
from penstock.queueing.twin import replay

MEASURED = Path(__file__).parents[1] / "data" / "measured_openloop_llama31_8b_vllm.csv"
RUN_SECONDS = 360.0
BELOW = 0.95  # of saturation
REFERENCE = "llama-3.1-8b-h100"
REQUESTS, REQUESTS_PER_REPLICA = 20_480, 4_096
SHAPES = {
    "chat 1155/211": ((1155, 211), 1.0, 432_992),
    "long out 128/800": ((128, 800), 1.0, 432_992),
    "long in 3000/60": ((3000, 60), 1.0, 432_992),
    "even 512/256": ((512, 256), 0.0, 432_992),
    "small KV 1155/211": ((1155, 211), 0.5, 70_000),
}
POOLS = (
    (1, Balancer.RANDOM, Arrivals.POISSON),
    (4, Balancer.LEAST_REQUESTS, Arrivals.POISSON),
    (16, Balancer.LEAST_REQUESTS, Arrivals.POISSON),
    (16, Balancer.POWER_OF_TWO, Arrivals.POISSON),
    (4, Balancer.ROUND_ROBIN, Arrivals.CONSTANT),
)
LOADS = (0.5, 0.8)
HIGH_LOAD = 0.9  # of the first shape only: it takes twice as many requests to settle


def measured_points() -> Iterator[dict[str, str]]:
    """The open-loop rows; `synchronous` and `throughput` are closed loops, which have no rate to predict."""
    with MEASURED.open() as lines:
        yield from (row for row in csv.DictReader(lines) if row["strategy"].startswith("constant@"))


def against_measurements() -> None:
    """Print model and measurement for every open-loop point, and the medians below 95 % of saturation."""
    profile = profile_named(REFERENCE)
    print(f"Real vLLM, Llama-3.1-8B, evenly spaced arrivals, lengths 0.5 to 1.5 x mean; profile {REFERENCE}")
    print("error of the model in %: steady state | twin (the 360 s of the experiment, from empty)")
    names = " ".join(f"{name:>8}" for name in ("TTFT p50", "TTFT p95", "ITL"))
    print(f"{'in':>5} {'out':>5} {'rate':>7} {'load':>5} | {names} | {names}")
    errors, above = [], 0
    for row in measured_points():
        tokens_in, tokens_out = int(row["in_nom"]), int(row["out_nom"])
        rate = float(row["strategy"].removeprefix("constant@"))
        model = ReplicaModel(profile, TrafficShape.uniform(tokens_in, tokens_out))
        load = rate / model.saturation_rate_per_second
        if load >= BELOW:
            above += 1
            continue
        steady = model.pool(1, rate, balancer=Balancer.RANDOM, arrivals=Arrivals.CONSTANT)
        first, tpot = experiment(model, tokens_in, tokens_out, rate)
        truth = [float(row[name]) * 1e-3 for name in ("ttft_p50", "ttft_p95", "itl_mean")]
        assert steady.ttft is not None
        assert steady.tpot is not None
        seen = (
            (steady.ttft.p50, steady.ttft.p95, steady.tpot.mean),
            (float(np.median(first)), float(np.quantile(first, 0.95)), float(tpot.mean())),
        )
        error = 100 * (np.array(seen) / truth - 1)
        errors.append(error)
        print(
            f"{tokens_in:>5} {tokens_out:>5} {rate:>7.2f} {load:>5.2f} | {_cells(error, '+8.1f')}", flush=True
        )
    size = np.abs(np.array(errors))
    left_out = f"({above} above it left out)"
    print(f"\n{len(errors)} points below {BELOW:.0%} of saturation {left_out}, absolute error in %:")
    print(f"{'median':>25} | {_cells(np.median(size, axis=0), '8.1f')}")
    print(f"{'90 % are below':>25} | {_cells(np.quantile(size, 0.9, axis=0), '8.1f')}")


def experiment(
    model: ReplicaModel, tokens_in: int, tokens_out: int, rate: float
) -> tuple[FloatArray, FloatArray]:
    """TTFT and TPOT of the requests that a run from empty answers within its 360 s."""
    random = np.random.default_rng(1)
    times = np.arange(int(RUN_SECONDS * rate)) / rate
    lengths = [
        np.maximum(1, np.rint(random.uniform(0.5 * mean, 1.5 * mean, times.size)))
        for mean in (tokens_in, tokens_out)
    ]
    run = replay(model.profile, times, *lengths, replicas=1, balancer=Balancer.RANDOM, random=random)
    answered = times + run.latency <= RUN_SECONDS
    return run.ttft[answered], run.tpot[answered & ~np.isnan(run.tpot)]


def against_simulation() -> None:
    """Print the error of every percentile against the simulation, over shapes, pools and loads."""
    print(f"Token-by-token simulation, {REQUESTS:,} requests or more each; error of the model in %")
    names = " ".join(f"{name:>4}" for name in ("mean", "p50", "p90", "p95", "p99"))
    print(f"{'TTFT':>56} {'TPOT':>27} {'latency':>30}")
    print(
        f"{'shape':>17} {'N':>2} {'balancer':>13} {'arrivals':>8} {'load':>4} | {names} | {names} | {names}"
    )
    errors: dict[str, list[FloatArray]] = {}
    for name, (means, scv, kv) in SHAPES.items():
        profile = replace(profile_named(REFERENCE), kv_capacity_tokens=float(kv))
        model = ReplicaModel(profile, TrafficShape.lognormal(*means, scv))
        for replicas, balancer, arrivals in POOLS:
            for load in (*LOADS, HIGH_LOAD) if name == next(iter(SHAPES)) else LOADS:
                error = simulated_error(model, replicas, balancer, arrivals, load)
                for group in ("all", name, f"load {load}", f"{replicas} {balancer}"):
                    errors.setdefault(group, []).append(error)
                case = f"{name:>17} {replicas:>2} {balancer:>13} {arrivals:>8} {load:>4}"
                print(f"{case} | {_cells(error, '+4.0f')}", flush=True)
    print("\nabsolute error in %: median, and what 90 % of the cases stay below")
    for group, each in errors.items():
        size = np.abs(np.array(each))
        print(f"{group:>30} {len(each):>3}    median | {_cells(np.median(size, axis=0), '4.0f')}")
        print(f"{'':>30} {'':>3}      90 % | {_cells(np.quantile(size, 0.9, axis=0), '4.0f')}")


def simulated_error(
    model: ReplicaModel, replicas: int, balancer: Balancer, arrivals: Arrivals, load: float
) -> FloatArray:
    """Errors in %: rows TTFT, TPOT, latency; columns mean, p50, p90, p95, p99."""
    rate = load * replicas * model.saturation_rate_per_second
    random = np.random.default_rng(7)
    # A pool at 90 % forgets its empty start in a few thousand requests a replica.
    count = max(REQUESTS, REQUESTS_PER_REPLICA * replicas) * (2 if load >= HIGH_LOAD else 1)
    inputs, outputs = model.shape.sample(count, random)
    gaps = random.exponential(1, count) if arrivals is Arrivals.POISSON else np.ones(count)
    truth = simulate(
        model.profile,
        np.cumsum(gaps / gaps.mean()) / rate,
        np.rint(inputs),
        np.rint(outputs),
        replicas=replicas,
        balancer=balancer,
        warm_up_ratio=0.5,
    )
    seen = model.pool(replicas, rate, balancer=balancer, arrivals=arrivals)
    pairs = ((seen.ttft, truth.ttft), (seen.tpot, truth.tpot), (seen.latency, truth.latency))
    return np.array([_errors(each, true) for each, true in pairs])


def _cells(rows: FloatArray, form: str) -> str:
    return " | ".join(" ".join(format(value, form) for value in row) for row in rows)


def _errors(seen: Distribution | None, truth: FloatArray) -> list[float]:
    assert seen is not None
    values = (seen.mean, seen.p50, seen.p90, seen.p95, seen.p99)
    exact = (truth.mean(), *np.quantile(truth, [0.5, 0.9, 0.95, 0.99]))
    return [100 * (value / true - 1) for value, true in zip(values, exact, strict=True)]


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", nargs="?", choices=("measured", "simulated"))
    table = parser.parse_args().table
    if table != "simulated":
        against_measurements()
    if table is None:
        print()
    if table != "measured":
        against_simulation()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
