"""The JSON contract of ``penstock plan``: keys, nulls, what the numbers are for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.plan_run import Run

KEYS = [
    "rate_per_second",
    "replicas",
    "replicas_with_spare",
    "binding",
    "utilization",
    "ttft_seconds",
    "tpot_seconds",
    "latency_seconds",
    "max_rate_per_replica",
    "saturation_rate_per_replica",
    "running_limit",
    "queue_limit",
    "kv_concurrency",
    "shed_fraction",
    "engine_flags",
    "cost_per_million_tokens",
    "cost_per_hour",
]
AZURE = ("--input-tokens", 1155, "--output-tokens", 211)
Service = Callable[..., Path]


def test_there_is_one_object_with_exactly_the_promised_keys(run: Run, chat: Path) -> None:
    plan = run("-f", chat, "--rate", 40, *AZURE, "-o", "json").plan
    assert list(plan) == KEYS
    for name in ("ttft_seconds", "tpot_seconds", "latency_seconds"):
        times = plan[name]
        assert list(times) == ["mean", "p50", "p90", "p95", "p99"]
        assert 0 < times["p50"] <= times["p90"] <= times["p95"] <= times["p99"] < math.inf
    assert plan["rate_per_second"] == 40
    assert type(plan["replicas"]) is int
    assert type(plan["kv_concurrency"]) is int


def test_a_real_process_prints_json_and_nothing_else(chat: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "penstock",
            "plan",
            "-f",
            chat,
            "--rate",
            "40",
            *map(str, AZURE),
            "-o",
            "json",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert list(json.loads(done.stdout)) == KEYS


def test_the_objectives_hold_at_the_count_and_not_with_one_fewer(run: Run, service: Service) -> None:
    file = service(slo={"ttft": {"p95": "300ms"}, "tpot": {"p95": "25ms"}}, replicas={"min": 1, "max": 50})
    common = ("-f", file, "--rate", 100, *AZURE, "--balancer", "least-requests", "-o", "json")
    plan = run(*common).plan
    assert plan["ttft_seconds"]["p95"] <= 0.3
    assert plan["tpot_seconds"]["p95"] <= 0.025
    assert plan["binding"] == "tpot.p95"
    assert plan["max_rate_per_replica"] * plan["replicas"] >= 100 * (1 - 1e-3)
    fewer = run(*common, "--replicas", plan["replicas"] - 1)
    assert fewer.plan["binding"] == "tpot.p95"
    assert fewer.plan["tpot_seconds"]["p95"] > 0.025


def test_evaluating_the_chosen_count_gives_the_same_plan(run: Run, service: Service) -> None:
    common = ("-f", service(), "--rate", 90, *AZURE, "-o", "json")
    chosen = run(*common).plan
    assert run(*common, "--replicas", chosen["replicas"]).plan == chosen


def test_percentiles_are_without_the_spare_and_costs_are_with_it(run: Run, service: Service) -> None:
    bare, spare = ({"min": 1, "max": 50, "spare": count} for count in (0, 2))
    without, with_two = (
        run("-f", service(replicas=bounds), "--rate", 40, *AZURE, "-o", "json").plan
        for bounds in (bare, spare)
    )
    same = set(KEYS) - {"replicas_with_spare", "cost_per_million_tokens", "cost_per_hour"}
    assert {key: without[key] for key in same} == {key: with_two[key] for key in same}
    assert with_two["replicas_with_spare"] == with_two["replicas"] + 2
    assert with_two["cost_per_hour"] == 4.0 * with_two["replicas_with_spare"]
    served = 40 * (1 - with_two["shed_fraction"]) * 211
    assert with_two["cost_per_million_tokens"] == pytest.approx(
        1e6 * with_two["cost_per_hour"] / (3600 * served), rel=1e-3
    )


def test_what_does_not_apply_is_null(run: Run, service: Service) -> None:
    plan = run("-f", service("classifier", cost=None), "--rate", 300, "-o", "json").plan
    assert list(plan) == KEYS
    for name in (
        "ttft_seconds",
        "tpot_seconds",
        "kv_concurrency",
        "cost_per_million_tokens",
        "cost_per_hour",
    ):
        assert plan[name] is None
    assert plan["latency_seconds"]["p95"] <= 0.030
    assert plan["latency_seconds"]["p99"] <= 0.050


def test_a_request_service_has_an_hourly_cost_and_no_tokens(run: Run, service: Service) -> None:
    plan = run("-f", service("classifier"), "--rate", 300, "-o", "json").plan
    assert plan["cost_per_hour"] == pytest.approx(0.60 * plan["replicas_with_spare"])
    assert plan["cost_per_million_tokens"] is None


def test_a_saturated_count_has_no_latencies_and_says_so(run: Run, chat: Path) -> None:
    ran = run("-f", chat, "--rate", 100, *AZURE, "--replicas", 3, "-o", "json")
    plan = ran.plan
    assert plan["binding"] == "saturation"
    assert plan["utilization"] > 1
    assert plan["ttft_seconds"] is plan["tpot_seconds"] is plan["latency_seconds"] is None
    assert plan["cost_per_million_tokens"] is None
    assert ran.stderr.startswith("Warning: 3 replicas will not do: saturated: they carry ")
    assert ran.stderr.endswith(", 100 are offered\n")


def test_the_minimum_of_the_file_is_applied(run: Run, service: Service) -> None:
    file = service(replicas={"min": 5, "max": 9, "spare": 1})
    plan = run("-f", file, "--rate", 1, *AZURE, "-o", "json").plan
    assert (plan["replicas"], plan["replicas_with_spare"], plan["binding"]) == (4, 5, "minimum")


def test_more_than_the_maximum_is_still_reported(run: Run, service: Service) -> None:
    file = service(replicas={"min": 1, "max": 2, "spare": 1})
    ran = run("-f", file, "--rate", 100, *AZURE, "-o", "json")
    needed = ran.plan["replicas"]
    assert needed > 2
    assert ran.stderr == (
        f"Warning: {needed + 1} replicas are needed ({needed} and 1 spare), spec.replicas.max is 2: "
        "the operator would stop there; raise it or lower the load\n"
    )


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (("--rate", 30), ("--rate", 120)),
        (("--output-tokens", 100), ("--output-tokens", 400)),
        (("--input-tokens", 500), ("--input-tokens", 3000)),
        (("--length-scv", 0), ("--length-scv", 4)),
    ],
)
def test_more_work_never_needs_fewer_replicas(
    run: Run, chat: Path, less: tuple[Any, ...], more: tuple[Any, ...]
) -> None:
    base = {"--rate": 80, "--input-tokens": 1155, "--output-tokens": 211}
    counts = []
    for name, value in (less, more):
        options = [part for pair in (base | {name: value}).items() for part in pair]
        counts.append(run("-f", chat, *options, "-o", "json").plan["replicas"])
    assert counts == sorted(counts)


def test_a_better_balancer_or_even_arrivals_never_need_more(run: Run, chat: Path) -> None:
    def p95(*options: object) -> float:
        return run("-f", chat, "--rate", 65, *AZURE, "--replicas", 4, *options, "-o", "json").plan[
            "ttft_seconds"
        ]["p95"]

    assert p95("--balancer", "least-requests") < p95("--balancer", "p2c") <= p95("--balancer", "random")
    assert p95("--balancer", "round-robin", "--arrivals", "constant") < p95("--balancer", "round-robin")


def test_the_balancer_is_the_file_s_unless_said_otherwise(run: Run, service: Service) -> None:
    common = ("--rate", 65, *AZURE, "--replicas", 4, "-o", "json")
    of_file = run("-f", service(routing={"balancer": "LeastRequests"}), *common).plan
    assert of_file == run("-f", service(), *common, "--balancer", "least-requests").plan
    assert of_file != run("-f", service(), *common).plan


def test_an_inline_profile_is_the_named_one_written_out(run: Run, service: Service) -> None:
    dense = {
        "t0Milliseconds": "5.298", "twMilliseconds": "1.79", "gMillisecondsPerToken": "0.02109",
        "aMillisecondsPerTokenPair": "1.15e-06", "eMillisecondsPerKVToken": "4.85e-05",
        "hMillisecondsPerSequence": "0.00708", "frontEndMilliseconds": "10.3", "kvCapacityTokens": 432_992,
    }  # fmt: skip
    experts = dense | {"mMilliseconds": "10", "n0Tokens": 40}

    def planned(profile: dict[str, object]) -> dict[str, Any]:
        file = service(engine={"profile": profile})
        return run("-f", file, "--rate", 20, *AZURE, "--replicas", 2, "-o", "json").plan

    assert planned({"type": "Inline", "inline": dense}) == planned(
        {"type": "Named", "name": "llama-3.1-8b-h100"}
    )
    slower = planned({"type": "Inline", "inline": experts})
    assert (
        slower["tpot_seconds"]["mean"] > planned({"type": "Inline", "inline": dense})["tpot_seconds"]["mean"]
    )


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ("VLLM", ["--max-num-seqs {c}", "--max-num-queued-reqs {most}"]),
        ("SGLang", ["--max-running-requests {c}", "--max-queued-requests {rest}"]),
        ("TGI", ["--max-concurrent-requests {most}"]),
        ("LlamaCpp", ["--parallel {c}"]),
    ],
)
def test_the_engine_s_flags_leave_half_as_much_again_as_the_gateway(
    run: Run, service: Service, engine: str, flags: list[str]
) -> None:
    profile = {"type": "Named", "name": "llama-3.1-8b-h100"}
    plan = run(
        "-f", service(engine={"type": engine, "profile": profile}), "--rate", 10, *AZURE, "-o", "json"
    ).plan
    c, most = plan["running_limit"], math.ceil(1.5 * (plan["running_limit"] + plan["queue_limit"]))
    assert plan["engine_flags"] == [each.format(c=c, most=most, rest=most - c) for each in flags]


def test_a_request_response_service_has_no_engine_flags(run: Run, service: Service) -> None:
    assert run("-f", service("classifier"), "--rate", 300, "-o", "json").plan["engine_flags"] == []


ENVOY: dict[str, object] = {"type": "Envoy", "balancer": "Random"}


@pytest.mark.parametrize(
    ("routing", "admission", "replicas", "binding"),
    [
        (ENVOY, {}, 5, "availability"),
        (ENVOY, {"policy": "Off"}, 3, "ttft.p95"),
        ({"type": "None", "balancer": "Random"}, {}, 3, "ttft.p95"),
    ],
)
def test_availability_sizes_a_pool_only_where_requests_are_refused(
    run: Run,
    service: Service,
    routing: dict[str, object],
    admission: dict[str, object],
    replicas: int,
    binding: str,
) -> None:
    file = service(
        slo={"ttft": {"p95": "1s"}, "tpot": {"p95": "60ms"}, "availabilityPercent": "99.5"},
        engine={"profile": {"type": "Named", "name": "llama-3.1-70b-h100-x2-fp8"}, "maxConcurrency": 8},
        routing=routing,
        admission=admission,
    )
    lengths = ("--input-tokens", 400, "--output-tokens", 60)
    plan = run("-f", file, "--rate", 12, *lengths, "-o", "json").plan
    assert (plan["replicas"], plan["binding"]) == (replicas, binding)
    # What three would refuse is said either way: with the queue of 1 that each endpoint keeps of q = 2.
    three = run("-f", file, "--rate", 12, *lengths, "--replicas", 3, "-o", "json").plan
    assert three["shed_fraction"] == pytest.approx(0.037, abs=0.002)
    table = run("-f", file, "--rate", 12, *lengths).stdout
    assert ("nobody is turned away" in table) is (binding != "availability")


def test_a_static_limit_is_planned_for(run: Run, service: Service) -> None:
    """By the model's own limits two replicas are enough; with 16 in flight each they would refuse half."""
    routing, static = {"type": "Envoy"}, {"policy": "Static", "static": {"maxInFlightPerReplica": 16}}
    common = ("--rate", 30, *AZURE)
    by_model = run("-f", service(routing=routing), *common, "-o", "json").plan
    file = service(routing=routing, admission=static)
    plan = run("-f", file, *common, "-o", "json").plan
    assert plan["running_limit"] + plan["queue_limit"] == 16
    assert plan["replicas"] > by_model["replicas"]
    assert plan["binding"] == "availability"
    assert plan["shed_fraction"] <= 0.005
    in_flight = f"{plan['replicas']} x 16 (admission.static) = {16 * plan['replicas']} in flight"
    assert in_flight in run("-f", file, *common).stdout
