"""Whole runs: the same seed, what is refused, and no compiler."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.golden import assert_golden
from fakes.sim_scenarios import TENTH, every, scenario
from penstock.model.profiles import profile_named
from penstock.queueing.errors import InvalidParameter
from penstock.sim.policy_port import Signals
from penstock.sim.run import RequestStatus, Run
from penstock.sim.scenario import Admission, Fallback, Routing, Scraping, StartUp
from penstock.sim.simulate import simulate
from penstock.sim.static import Static


class ByQueue:
    """One more while somebody waits, one less when nobody does."""

    name = "by queue"
    interval_seconds = 15.0

    def decide(self, seen: Signals) -> int:
        if seen.waiting is None:
            return seen.target
        return seen.target + (1 if seen.waiting > 1 else -1)


def wild(seed: int, **changes: Any) -> Run:
    """A run in which everything happens: bursts, failures, missed scrapes, shedding."""
    random = np.random.default_rng(5)
    arrivals = np.sort(np.concatenate([random.uniform(0, 600, 4000), random.uniform(200, 260, 2500)]))
    profile = replace(profile_named("llama-3.1-8b-h100"), kv_capacity_tokens=40_000.0, max_sequences=48)
    admission = Admission(40, 6)
    return simulate(
        scenario(
            arrivals,
            random.integers(1, 3000, arrivals.size),
            random.integers(1, 400, arrivals.size),
            **(
                {
                    "profile": profile,
                    "start_up": StartUp(30.0, 50.0, failed_ratio=0.2),
                    "scraping": Scraping(missed_ratio=0.1, delay_seconds=2.0),
                    "admission": admission,
                    "fallback": Fallback(profile, 1, admission),
                    "routing": Routing.POWER_OF_TWO,
                }
                | changes
            ),
        ),
        ByQueue(),
        seed,
    )


def test_a_seed_gives_one_run():
    one, again, other = wild(1), wild(1), wild(2)
    for name in ("ttft_seconds", "tpot_seconds", "latency_seconds", "status"):
        assert np.array_equal(getattr(one, name), getattr(again, name), equal_nan=True)
    assert one.scale_events == again.scale_events
    assert not np.array_equal(one.latency_seconds, other.latency_seconds, equal_nan=True)


def quantiles(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in np.nanquantile(values, [0.5, 0.95, 1.0])]


@pytest.mark.parametrize(
    ("golden", "changes"),
    [("wild_run.json", {}), ("open_run.json", {"admission": None, "fallback": None})],
)
def test_a_run_is_what_it_was(golden: str, changes: dict[str, Any]):
    run = wild(1, **changes)
    assert_golden(
        Path(__file__).parent / "golden" / golden,
        {
            "ttft_seconds": quantiles(run.ttft_seconds),
            "tpot_seconds": quantiles(run.tpot_seconds),
            "by_status": {each.name: int((run.status == each).sum()) for each in RequestStatus},
            "preemptions": run.preemptions,
            "replica_seconds": round(run.replica_seconds(), 3),
            "targets": [[event.at, event.after] for event in run.scale_events],
        },
    )


def test_every_request_ends_one_way_or_the_other():
    run = wild(3)
    answered = np.isin(run.status, (RequestStatus.SERVED, RequestStatus.FELL_BACK))
    assert np.array_equal(~np.isnan(run.latency_seconds), answered)
    assert (run.latency_seconds[answered] >= run.ttft_seconds[answered]).all()


QUIET = every(1.0, 10.0)


@pytest.mark.parametrize(
    ("arrivals", "inputs", "outputs", "changes", "message"),
    [
        ([], 1, 1, {}, "arrivals_seconds must not be empty, with one input and output length each"),
        ([1.0, 0.5], 1, 1, {}, "arrivals_seconds must be sorted: request 1 is too early"),
        ([-1.0], 1, 1, {}, "arrivals_seconds must be finite and at least 0"),
        ([0.0], [0], 1, {}, "input_tokens of request 0 is 0, not 1 to 1048576"),
        ([0.0, 1.0], 1, [1, -3], {}, "output_tokens of request 1 is -3, not 1 to 1048576"),
        (
            [0.0],
            [200_000],
            1,
            {},
            "profile.kv_capacity_tokens 160000 cannot hold request 0 of 200001 tokens",
        ),
        (QUIET, 1, 1, {"end_seconds": 5.0}, "end_seconds must not be before the last arrival at 9"),
        (
            QUIET,
            1,
            1,
            {"max_replicas": 65},
            "min_replicas, initial_replicas, max_replicas must be in this order within 1 to 64, got 1, 1, 65",
        ),
        (
            QUIET,
            1,
            1,
            {"fallback": Fallback(TENTH, 1, Admission(1, 1))},
            "fallback needs an admission limit: nothing else spills to it",
        ),
    ],
)
def test_a_scenario_that_cannot_be_run_is_refused(
    arrivals: Any, inputs: Any, outputs: Any, changes: dict[str, Any], message: str
):
    with pytest.raises(InvalidParameter) as refused:
        simulate(scenario(arrivals, inputs, outputs, **changes), Static(1), seed=1)
    assert str(refused.value) == message


def test_without_numba_it_says_what_to_install():
    code = "import sys; sys.modules['numba'] = None; import penstock.sim.compiled"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: the fleet simulation needs numba: pip install 'penstock[sim]'"
    )
