"""Both arms' counters through a real Prometheus, with restarts and scrapes that fail."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import pytest

from fakes.prometheus_fixture import wait_until
from fakes.replayed_engine import ReplayedEngine
from fakes.scraped_fleet import quick_settings, target
from penstock.metrics_source.arms import ArmsRead, ArmsWanted, read_arms
from penstock.metrics_source.connection import Connection
from penstock.metrics_source.prometheus_http import PrometheusHttp
from penstock.model.canary_counts import Metric, Trials
from penstock.model.canary_spec import CanaryCheck, CheckType
from penstock.model.spec import EngineType, ServiceKey
from penstock.policy.canary_counts import CountsMemory, advance
from penstock.sandbox.prometheus import PrometheusProcess

pytestmark = pytest.mark.prometheus
TOXIC = CanaryCheck(
    "toxic",
    CheckType.COUNTERS,
    bad='answers_total{toxic="yes",pod=~"$arm_pods"}',
    total='sum by (pod) (answers_total{pod=~"$arm_pods"})',
)
WANTED = ArmsWanted(
    key=ServiceKey("prod", "chat"),
    engine=EngineType.VLLM,
    stable_pods=frozenset({"chat-1", "chat-2"}),
    canary_pods=frozenset({"new-1"}),
    metrics=(Metric.ERRORS, Metric.TTFT),
    checks=(TOXIC,),
)


def exposition(done: int, failed: int, slow: int) -> bytes:
    """Return what a server prints that finished some requests, some of them slower than 0.5 s."""
    total = done + failed
    return f"""\
# TYPE vllm:request_success_total counter
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} {done}
vllm:request_success_total{{engine="0",finished_reason="error",model_name="m"}} {failed}
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.5",model_name="m"}} {total - slow}
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="m"}} {total}
vllm:time_to_first_token_seconds_count{{engine="0",model_name="m"}} {total}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="m"}} {total}
# TYPE answers_total counter
answers_total{{toxic="yes"}} {failed}
answers_total{{toxic="no"}} {done}
""".encode()


@dataclass
class Arms:
    """Three servers behind a Prometheus; `count` says what they have finished."""

    prometheus: PrometheusProcess
    engines: Mapping[str, ReplayedEngine]
    source: PrometheusHttp
    memory: CountsMemory = field(default_factory=CountsMemory)

    def count(self, pod: str, *, done: int, failed: int = 0, slow: int = 0) -> None:
        """Let a server show these counts, and wait until Prometheus has them."""
        self.engines[pod].body = exposition(done, failed, slow)
        query = f'vllm:request_success_total{{pod="{pod}",finished_reason="stop"}} == {done}'
        wait_until(self.prometheus, query)

    async def read(self) -> ArmsRead:
        """Read both arms now."""
        found = await read_arms(self.source, [WANTED], at=time.time(), settings=quick_settings())
        return found[WANTED.key]


@pytest.fixture
def arms(prometheus: PrometheusProcess) -> Iterator[Arms]:
    """Three servers, scraped twice a second."""
    with ExitStack() as stack:
        engines = {
            pod: stack.enter_context(ReplayedEngine(""))
            for pod in sorted(WANTED.stable_pods | WANTED.canary_pods)
        }
        for engine in engines.values():
            engine.body = exposition(0, 0, 0)
        prometheus.set_targets([target(engine, pod) for pod, engine in engines.items()])
        yield Arms(prometheus, engines, PrometheusHttp(Connection(prometheus.url)))


async def test_increments_survive_a_restart_and_a_failed_scrape(arms: Arms) -> None:
    try:
        arms.count("chat-1", done=1000, failed=10, slow=100)
        arms.count("chat-2", done=500, failed=5, slow=50)
        arms.count("new-1", done=40)
        before = await arms.read()
        assert before.lacks == ()
        assert before.stable is not None
        assert [(pod.pod, pod.requests, pod.errors) for pod in before.stable.pods] == [
            ("chat-1", 1010, 10),
            ("chat-2", 505, 5),
        ]
        _, memory = advance(CountsMemory(), before.stable, before.canary)

        arms.count("chat-1", done=1100, failed=11, slow=110)
        arms.count("chat-2", done=20, failed=2, slow=4)  # it was started anew
        arms.engines["new-1"].body = b"not an exposition {"
        wait_until(arms.prometheus, 'up{pod="new-1"} == 0')
        during = await arms.read()
        assert during.canary is None, "a server that cannot be scraped has no counters, not the old ones"
        assert {each.what for each in during.lacks} == {"errors", "ttft", "toxic"}
        assert during.stable is not None
        added, _ = advance(memory, replace(during.stable, fresh_seconds=3600.0), during.canary)
        assert added.stable is not None
        assert added.stable.errors == Trials(failures=1, total=101), (
            "while another Prometheus could have shown it that"
        )
        added, memory = advance(memory, replace(during.stable, fresh_seconds=0.0), during.canary)
        assert added.stable is not None
        assert added.canary is None
        assert added.stable.errors == Trials(failures=1 + 2, total=101 + 22)
        assert added.stable.checks == {"toxic": Trials(failures=1 + 2, total=101 + 22)}
        assert added.stable.latencies[Metric.TTFT].cumulative == (91 + 18, 101 + 22)

        arms.count("new-1", done=90, failed=10, slow=30)
        added, _ = advance(memory, *((each := await arms.read()).stable, each.canary))
        assert added.canary is not None
        assert added.canary.errors == Trials(failures=10, total=60), (
            "what the lost scrape delayed is counted once"
        )
        assert added.canary.latencies[Metric.TTFT].cumulative == (30, 60)
    finally:
        await arms.source.close()


async def test_counters_that_stand_still_because_nobody_scrapes_are_missing(arms: Arms) -> None:
    try:
        arms.count("new-1", done=40)
        wanted = replace(WANTED, checks=())
        # Stale after 3 s; Prometheus by itself would show it for 5 minutes.
        found = await read_arms(arms.source, [wanted], at=time.time() + 4.0, settings=quick_settings())
        assert found[WANTED.key].canary is None
    finally:
        await arms.source.close()
