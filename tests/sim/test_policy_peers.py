"""The peers' `decide`, each walked by hand: windows, histories, guards, and what an HPA lets by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from fakes.sim_scenarios import TENTH, scenario
from penstock.model.profiles import profile_named
from penstock.queueing.engine_profile import EngineProfile
from penstock.queueing.step_law import StepLaw
from penstock.sim.policies.apa import Apa
from penstock.sim.policies.dynamo import Dynamo, first_token_seconds, worker_rate
from penstock.sim.policies.keda import KedaEpp
from penstock.sim.policies.kthena import Kthena
from penstock.sim.policies.registry import policy
from penstock.sim.policies.slo_keda import SloKeda
from penstock.sim.policies.token_aware import TokenAware, prefill_tokens_per_second
from penstock.sim.policies.wva_saturation import WvaSaturation
from penstock.sim.policies.wva_tokens import WvaTokens
from penstock.sim.policy_port import (
    Buckets,
    EngineCounts,
    ReplicaGauges,
    ReplicaWindow,
    ScalingPolicy,
    Signals,
    WindowRates,
)
from penstock.sim.scenario import Objectives

SLO = Objectives(0.5, 0.05)
# Of a prompt of 1000 a token costs 5 microseconds: 500 pairs.
PAIRS = EngineProfile(
    name="ten milliseconds a step and attention",
    step_law=StepLaw(base_seconds=0.01, per_token_pair_seconds=1e-8),
    kv_capacity_tokens=160_000,
    frontend_seconds=0.0,
)


@dataclass(frozen=True)
class Answers:
    found: WindowRates | None
    offered: float | None
    windows: tuple[ReplicaWindow, ...]

    def rates(self, at: float, window_seconds: float) -> WindowRates | None:
        return self.found

    def offered_rate(self, at: float, window_seconds: float) -> float | None:
        return self.offered

    def over(self, at: float, window_seconds: float) -> tuple[ReplicaWindow, ...]:
        return self.windows


@dataclass(frozen=True)
class Pod:
    kv: float = 0.0
    waiting: int = 0
    running: int = 0
    draining: bool = False


def all_at(value: float | None) -> Buckets:
    """Return a histogram with one observation a second, at `value`: every quantile is that."""
    if value is None:
        return Buckets((1.0, math.inf), np.zeros(2), 0.0)
    return Buckets((value, value, math.inf), np.array([0.0, 1.0, 0.0]), value)


def engine(
    *,
    requests: float = 1.0,
    inputs: float = 100.0,
    outputs: float = 100.0,
    steps: float = 100.0,
    ttft: float | None = None,
    tpot: float | None = None,
) -> EngineCounts:
    nothing = all_at(None)
    return EngineCounts(
        requests, requests, requests * inputs, requests * outputs, 0.0, steps, all_at(ttft), all_at(tpot),
        nothing, nothing, nothing, all_at(inputs), all_at(outputs),
    )  # fmt: skip


def seen(
    at: float,
    target: int,
    pods: Sequence[Pod] = (),
    rates: EngineCounts | None = None,
    *,
    ready: int | None = None,
    offered: float | None = None,
    reporting: int | None = None,
    answers: bool = True,
) -> Signals:
    """Return what is seen of `pods`; `reporting` of them have a window, no `answers`: Prometheus is away."""
    ready = target if ready is None else ready
    gauges = tuple(
        ReplicaGauges(number, 1.0, each.running, each.waiting, each.kv, each.draining)
        for number, each in enumerate(pods)
    )
    windows = tuple(
        ReplicaWindow(
            number, 4, each.running, each.waiting, each.kv, each.running, each.waiting, each.kv
        )
        for number, each in enumerate(pods[:reporting])
    )  # fmt: skip
    found = None if rates is None else WindowRates(60.0, len(pods), rates, 0.0)
    running, waiting = sum(each.running for each in pods), sum(each.waiting for each in pods)
    return Signals(
        at, ready, target - ready, target, 1, 30, running, waiting, gauges, None, None, None, offered,
        engine() if answers else None, 60.0, Answers(found, offered, windows),
    )  # fmt: skip


def one_more(name: str, count: int) -> tuple[ScalingPolicy, Signals]:
    """Return a policy and what makes it ask for `count` + 1."""
    half = (count + 0.5) / count
    if name == "wva-v1":
        return WvaSaturation(), seen(0.0, count, [Pod(kv=0.75)] * count)
    if name == "wva-v2":  # 256 slots of 150 tokens each are 38,400 a replica
        pods = [Pod(kv=0.85 * 38_400 * half / 160_000)] * count
        return WvaTokens(TENTH), seen(0.0, count, pods, engine())
    if name == "slo-keda":
        return SloKeda(SLO), seen(0.0, count, (), engine(ttft=0.55 * half * SLO.ttft_seconds))
    if name == "token-aware":
        return TokenAware(TENTH), seen(0.0, count, [Pod(kv=0.8 * half)] * count, engine())
    return KedaEpp(), seen(0.0, count, [Pod(running=int(16 * (count + 0.5)))])


@pytest.mark.parametrize("name", ["wva-v1", "wva-v2", "slo-keda", "token-aware", "keda-llm-d"])
@pytest.mark.parametrize(("count", "expected"), [(11, 11), (4, 5)])
def test_the_hpa_behind_a_peer_moves_only_by_more_than_a_tenth(name: str, count: int, expected: int):
    peer, asks = one_more(name, count)
    looks = [peer.decide(at_time(asks, 15.0 * k)) for k in range(3)]  # the guide waits 30 s on the way up
    assert looks[-1] == expected


def at_time(signals: Signals, at: float) -> Signals:
    return Signals(at, *(getattr(signals, name) for name in Signals.__slots__[1:]))


def test_wva_v1_moves_nothing_while_a_change_is_under_way():
    wva, busy = WvaSaturation(), Pod(kv=0.9)
    assert wva.decide(seen(0.0, 4, [busy] * 3, ready=3)) == 4  # one starts
    assert wva.decide(seen(15.0, 4, [busy] * 4, reporting=3)) == 4  # one does not report yet
    assert wva.decide(seen(30.0, 4, [busy] * 4 + [Pod(kv=0.1, draining=True)])) == 5
    assert WvaSaturation().decide(seen(0.0, 4, [])) == 4  # no metrics at all


def test_wva_v1_takes_one_away_only_when_its_hpa_has_heard_so_for_five_minutes():
    wva, idle = WvaSaturation(), [Pod(kv=0.1)] * 4
    assert [wva.decide(seen(15.0 * k, 4, idle)) for k in range(21)] == [4] * 20 + [3]


def test_wva_v2_remembers_what_fitted_when_five_waited():
    wva = WvaTokens(TENTH)
    # 5 wait at 40,000 tokens in use: 41,000/0.85 - 40,000 = 8,235, one more.
    assert wva.decide(seen(0.0, 1, [Pod(kv=0.25, waiting=5)], engine())) == 2
    # The mean of 40,000 and 80,000: 81,200/0.85 - 60,000 = 35,529, one more.
    assert wva.decide(seen(15.0, 1, [Pod(kv=0.5, waiting=6)], engine())) == 2
    # Nothing waits, the history stays: 80,000/0.85 - 60,000; by 256 slots of 150 it would be two more.
    assert wva.decide(seen(30.0, 1, [Pod(kv=0.5)], engine())) == 2
    assert WvaTokens(TENTH).decide(seen(0.0, 1, [Pod(kv=0.5)], engine())) == 3
    # Long outputs have a history of their own, none yet: 256 slots of 400 tokens are enough.
    assert wva.decide(seen(45.0, 1, [Pod(kv=0.5)], engine(outputs=600.0))) == 1


def test_wva_v2_counts_what_starts_and_holds_without_metrics():
    # 2 x 0.4 x 160,000/0.85 = 150,588, less 3 or 4 times 38,400.
    pods = [Pod(kv=0.4)] * 2
    assert WvaTokens(TENTH).decide(seen(0.0, 3, pods, engine(), ready=2)) == 4
    assert WvaTokens(TENTH).decide(seen(0.0, 4, pods, engine(), ready=2)) == 4
    assert WvaTokens(TENTH).decide(seen(0.0, 4, pods)) == 4
    assert WvaTokens(TENTH).decide(seen(0.0, 4, [], engine())) == 4


def test_the_slo_aware_guide_smooths_over_45_s_and_takes_no_value_for_zero():
    keda, late = SloKeda(SLO), engine(ttft=0.9 * SLO.ttft_seconds)
    looks = [keda.decide(seen(0.0, 4, (), engine()))]  # 0: wants 1, for which it waits three minutes
    looks += [keda.decide(seen(15.0 * k, 4, (), late)) for k in (1, 2, 3)]
    # Means 0.45, 0.6, 0.9 ask for 4, 5, 7; of two looks (30 s) the lower counts.
    assert looks == [4, 4, 4, 5]
    # 5 + ceil(5 (0.9/0.55 - 1)) = 9; the look before it said 7.
    assert keda.decide(seen(60.0, 5, (), late)) == 7


def test_a_query_that_fails_leaves_the_slo_aware_guide_and_its_mean_alone():
    keda, late = SloKeda(SLO), engine(ttft=0.9 * SLO.ttft_seconds)
    assert keda.decide(seen(0.0, 4, (), late)) == 4
    assert keda.decide(seen(15.0, 4, (), answers=False)) == 4
    assert keda.decide(seen(30.0, 4, (), late)) == 7  # a zero in between would have made 0.6 of it: 5


def test_a_spike_counts_twice_the_objective_in_the_slo_aware_guides_mean():
    keda = SloKeda(SLO)
    shares = (0.3, 0.3, 50.0)  # (0.3 + 0.3 + 2)/3 = 0.867: 8 + ceil(8 (0.867/0.55 - 1)) = 13
    looks = [
        keda.decide(seen(15.0 * k, 8, (), engine(tpot=s * SLO.tpot_seconds))) for k, s in enumerate(shares)
    ]
    assert looks == [8, 8, 8]
    assert keda.decide(seen(45.0, 8, (), engine(tpot=0.3 * SLO.tpot_seconds))) == 13


def test_token_aware_keda_asks_for_the_highest_of_backlog_and_cache():
    def decides(target: int, pods: Sequence[Pod], **rates: float) -> int:
        return TokenAware(TENTH).decide(seen(0.0, target, pods, engine(**rates)))

    # V = 8192/0.01 s; each replica is to have 1.5 s of it: 1,228,800 tokens.
    assert decides(1, [Pod()], requests=1000.0, inputs=1000.0, ttft=3.0) == 3  # 3,000,000 by Little
    assert decides(1, [Pod(waiting=5000)], requests=1000.0, inputs=1000.0, ttft=3.0) == 5  # 5,000,000 wait
    assert decides(3, [Pod(kv=0.9)] * 3) == 4  # 2.7/0.8
    assert decides(3, [Pod(kv=0.87)] * 3) == 3  # 2.61/0.8 = 3.26, within a tenth of 3


def test_the_prefill_speed_is_that_measured_for_the_guides_model_and_gpus():
    measured = 15_928.0  # Qwen3-32B on two H100: its peakPrefillThroughput
    assert prefill_tokens_per_second(profile_named("qwen3-32b-h100-x2")) == pytest.approx(measured, rel=0.05)
    assert prefill_tokens_per_second(TENTH) == 8192 / 0.01
    # 8192^2/2 pairs and a step.
    assert prefill_tokens_per_second(PAIRS) == pytest.approx(8192 / (0.01 + 8192**2 / 2 * 1e-8))


def test_kedas_concurrency_is_what_runs_and_what_waits():
    keda = policy("keda", scenario([0.0]), queue=100.0, concurrency=32.0)
    assert keda.decide(seen(0.0, 1, [Pod(running=40, waiting=30)])) == 3  # 70/32


def test_kthena_doubles_calmly_and_grows_tenfold_in_panic():
    calm, panic = Kthena(SLO), Kthena(SLO)
    assert calm.decide(seen(0.0, 4, (), engine(ttft=1.9 * SLO.ttft_seconds))) == 8  # ceil(4 x 1.9)
    assert panic.decide(seen(0.0, 2, (), engine(ttft=4.0 * SLO.ttft_seconds), ready=2)) == 8
    # What it ordered starts: two are ready, and nothing is taken back for the panic's minute...
    better = engine(tpot=0.1 * SLO.tpot_seconds)
    looks = [panic.decide(seen(15.0 * k, 8, (), better, ready=2)) for k in range(1, 20)]
    assert looks == [8] * 19
    # ... nor for five minutes after it asked for them.
    assert panic.decide(seen(300.0, 8, (), better)) == 1
    assert Kthena(SLO).decide(seen(0.0, 3, (), engine())) == 3  # nobody was answered: no ratio
    assert Kthena(SLO).decide(seen(0.0, 3)) == 3


def test_kthena_goes_up_by_no_more_than_a_doubling_without_panic():
    kthena = Kthena(SLO)
    assert kthena.decide(seen(0.0, 2, (), engine(ttft=1.99 * SLO.ttft_seconds), ready=9)) == 4  # not 18


def test_aibrix_apa_takes_the_mean_of_three_minutes_up_and_waits_five_down():
    apa = Apa(kv=0.5)
    usages = [0.5] * 18 + [0.93] * 3
    looks = [apa.decide(seen(10.0 * k, 2, [Pod(kv=usage)] * 2)) for k, usage in enumerate(usages)]
    # The means are 0.524, 0.548 and 0.572: the third is beyond 1.1 times 0.5.
    assert looks == [2] * 20 + [3]
    apa = Apa(kv=0.5)
    looks = [apa.decide(seen(10.0 * k, 4, [Pod(kv=0.0 if k else 0.5)])) for k in range(31)]
    assert looks == [4] * 30 + [2]  # floor(n/2), once the first look is 300 s old
    assert apa.decide(seen(310.0, 4, [])) == 4  # no metric: skipped


def test_a_dynamo_worker_carries_what_its_largest_batch_in_time_carries():
    # Every step of TENTH lasts 10 ms: 256 slots over 64 steps.
    assert worker_rate(TENTH, SLO, 100.0, 64.0) == pytest.approx(256 / (64 * 0.01))
    # 160,000 tokens hold 152 contexts of 1050; their step has 1520 prompt tokens of 5 microseconds.
    assert worker_rate(PAIRS, SLO, 1000.0, 100.0) == pytest.approx(152 / (100 * 0.0176))
    # ITL 15 ms: 100 sequences, 1000 prompt tokens; TTFT 20 ms: 1000 behind 1000, the same.
    for slo in (Objectives(0.5, 0.01503), Objectives(0.02003, 0.05)):
        assert worker_rate(PAIRS, slo, 1000.0, 100.0) == pytest.approx(100 / (100 * 0.015))
    # Not even one is in time: it plans with one.
    assert worker_rate(PAIRS, Objectives(0.001, 0.05), 1000.0, 100.0) == pytest.approx(1 / (100 * 0.01005))
    # A prompt of 8000 tokens for 2 of output leaves the step's budget no more than 4192 sequences, of 256.
    assert worker_rate(TENTH, SLO, 8000.0, 2.0) == pytest.approx(19 / (2 * 0.01))  # 160,000/8001


def test_dynamo_prefills_a_queue_in_steps_of_the_budget_each_prompt_for_itself():
    # 10 prompts of 1000 and its own are 11,000 tokens: two steps, and 500 pairs a token.
    assert first_token_seconds(PAIRS, 10_000.0, 1000.0, 0.0, 0.0) == pytest.approx(2 * 0.01 + 11_000 * 5e-6)
    assert first_token_seconds(TENTH, 7192.0, 1000.0, 0.0, 0.0) == 0.01


def test_dynamo_plans_every_three_minutes_and_keeps_its_plan_without_traffic():
    dynamo = Dynamo(TENTH, SLO)
    assert dynamo.interval_seconds == 180.0
    assert dynamo.decide(seen(0.0, 1, [Pod()])) == 1
    load = engine(requests=100.0, outputs=64.0)
    assert dynamo.decide(seen(180.0, 1, [Pod()], load, offered=1000.0)) == 3  # 400/s each
    assert dynamo.decide(seen(360.0, 3, [Pod()] * 3, engine(requests=0.0), offered=0.0)) == 3
    assert dynamo.decide(seen(540.0, 3, [Pod()] * 3, load)) == 1  # nothing counted at the gateway: 100/s


def test_dynamos_load_loop_goes_by_every_engine_and_never_below_the_plan():
    dynamo = Dynamo(PAIRS, Objectives(0.2, 0.05), load_loop_seconds=5.0)
    load = engine(inputs=1000.0)

    def decides(at: float, target: int, *waiting: int, offered: float = 1.0, ready: int | None = None) -> int:
        pods = [Pod(waiting=each, kv=0.2) for each in waiting]
        return dynamo.decide(seen(at, target, pods, load, offered=offered, ready=ready))

    # 41 prompts are 6 steps and 205 ms: late on both.
    assert decides(0.0, 2, 40, 40) == 3
    assert decides(5.0, 3, 40, 40, ready=2) == 3  # a start is in progress
    assert decides(10.0, 3, 40, 40, 0) == 3  # not on every one
    # 11 prompts (two steps, 75 ms) are in time. On one engine fewer 1.5 times the queue would take 85 ms more
    # than a prompt alone, of 0.8 x 185 ms.
    assert decides(15.0, 3, 10, 10, 10) == 2
    # On one alone 13 + 13 would take 160 ms more, of 148.
    assert decides(20.0, 2, 13, 13) == 2
    assert decides(25.0, 2, 10, 10) == 1
    # The plan: 152/1.76 s each.
    assert decides(180.0, 2, 0, 0, offered=200.0) == 3
    assert decides(185.0, 3, 0, 0, 0) == 3
