"""Run a policy on a scenario: the loop between Kubernetes, Prometheus and the policy.

The fleet is taken from one instant to the next at which something outside it happens: a decision, a pod
that becomes ready, a scrape interval that ends. After `end_seconds` nobody decides any more; the requests
still in the pool are answered by the replicas that are there, off the bill.
"""

from __future__ import annotations

import math

import numpy as np

from penstock.queueing.errors import InvalidParameter
from penstock.sim.check import check_scenario
from penstock.sim.fleet import ROUTINGS, Span, advance
from penstock.sim.gate import SteersTraffic, gate_of
from penstock.sim.metrics import Prometheus
from penstock.sim.policy_port import ScalingPolicy, Signals
from penstock.sim.pool import ROWS, Pool
from penstock.sim.run import Run
from penstock.sim.scenario import Scenario
from penstock.sim.state import new_fleet


def simulate(scenario: Scenario, policy: ScalingPolicy, seed: int) -> Run:
    """Return what happens to every request and replica; the same seed gives the same run.

    Raises InvalidParameter for a scenario that cannot be run.
    """
    check_scenario(scenario)
    if scenario.fallback is not None and scenario.admission is None and not isinstance(policy, SteersTraffic):
        raise InvalidParameter("fallback", "needs an admission limit: nothing else spills to it")
    return _Simulation(scenario, policy, seed).run()


class _Simulation:
    def __init__(self, scenario: Scenario, policy: ScalingPolicy, seed: int) -> None:
        self.scenario, self.policy = scenario, policy
        # Streams of their own: a policy that scales more must not change the balancer's luck.
        routing, starts, scrapes = (np.random.default_rng(part) for part in _seeds(seed))
        self.fleet = new_fleet(
            scenario.arrivals_seconds,
            scenario.input_tokens,
            scenario.output_tokens,
            rows=ROWS,
            random=routing,
        )
        self.pool = Pool(scenario, self.fleet.replicas, starts)
        self.prometheus = Prometheus(scenario.scraping, scrapes)
        self.gate = gate_of(scenario, policy, self.fleet, self.pool.fallback_rows)
        self.span = self._new_span()

    def run(self) -> Run:
        scenario, interval = self.scenario, self.scenario.scraping.interval_seconds
        end = scenario.end_seconds
        if end is None:
            end = float(scenario.arrivals_seconds[-1])
        now = 0.0
        decisions = scrapes = 0
        while True:
            decide_at, scrape_at = decisions * self.policy.interval_seconds, scrapes * interval
            following = min(decide_at, scrape_at, self.pool.next_ready(), self.gate.next_step())
            if following > end:
                break
            now = max(now, following)
            self._advance(now)
            if scrape_at <= now:
                self.prometheus.gateway_scraped(now, float(self.fleet.offered[0]))
                scrapes += 1
            self.pool.become_ready(now)
            if decide_at <= now:
                self.pool.scale(now, self.policy.decide(self._signals(now)))
                if isinstance(self.policy, SteersTraffic):
                    self.gate.follow(self.policy.traffic())
                decisions += 1
            if self.gate.next_step() <= now:
                self.gate.step(now, self.pool.ready_rows())
            self._renew(now)
        self._advance(math.nextafter(end, math.inf))  # an arrival at the end still counts
        self._answer_the_rest()
        return self._result(end)

    def _advance(self, until: float) -> None:
        """Take the fleet to `until` and hand its scrapes to Prometheus."""
        fleet = self.fleet
        advance(fleet, self.span, float(until))  # an int would be compiled again
        for place in range(int(fleet.scrapes[0])):
            number = self.pool.number_in_row[int(fleet.scraped_row[place])]
            self.prometheus.scraped(number, float(fleet.scraped_at[place]), fleet.scraped[place].copy())
        fleet.scrapes[0] = 0

    def _renew(self, now: float) -> None:
        """Let drained pods go, and tell the gateway who is ready."""
        for pod in self.pool.release_drained():
            self.prometheus.gone(pod.number, now)
        self.span = self._new_span()

    def _answer_the_rest(self) -> None:
        """Run on, unscraped, until every request is answered."""
        self.fleet.replicas["next_scrape"] = math.inf
        advance(self.fleet, self.span, math.inf)
        self.pool.release_drained()

    def _signals(self, now: float) -> Signals:
        scenario, pool, prometheus = self.scenario, self.pool, self.prometheus
        window = scenario.scraping.rate_window_seconds
        gauges = prometheus.gauges(now, (pod.number for pod in pool.draining))
        rates = prometheus.rates(now, window)
        return Signals(
            at=now,
            ready=len(pool.ready),
            starting=len(pool.starting),
            target=pool.target,
            min_replicas=scenario.min_replicas,
            max_replicas=scenario.max_replicas,
            running=sum(each.running for each in gauges) if gauges else None,
            waiting=sum(each.waiting for each in gauges) if gauges else None,
            replicas=gauges,
            arrival_rate=rates.engine.requests if rates else None,
            input_token_rate=rates.engine.prompt_tokens if rates else None,
            output_token_rate=rates.engine.generation_tokens if rates else None,
            offered_rate=prometheus.offered_rate(now, window),
            counters=prometheus.counters(now),
            rate_window_seconds=window,
            range_queries=prometheus,
            gateway=self.gate.rates(now),
        )

    def _new_span(self) -> Span:
        scenario, pool = self.scenario, self.pool
        ready = pool.ready_rows()
        return Span(
            ready=ready,
            alive=pool.alive_rows(),
            fallback=pool.fallback_rows,
            routing=ROUTINGS[scenario.routing],
            **self.gate.limits(ready)._asdict(),
            scrape_interval=float(scenario.scraping.interval_seconds),
        )

    def _result(self, end: float) -> Run:
        requests, frontend = self.fleet.requests, self.scenario.profile.frontend_seconds
        arrival, first, last = (requests[name].copy() for name in ("arrival", "first", "last"))
        gaps = requests["output"] - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            tpot = np.where(gaps > 0, (last - first) / gaps, np.nan)
        return Run(
            scenario=self.scenario.name,
            policy=self.policy.name,
            end_seconds=end,
            ttft_seconds=first - arrival + frontend,
            tpot_seconds=tpot,
            latency_seconds=last - arrival + frontend,
            status=requests["status"].astype(np.int8),
            timeline=self.pool.timeline(),
            scale_events=tuple(self.pool.scale_events),
            preemptions=int(requests["preemptions"].sum()),
            limit_changes=self.gate.changes,
        )


def _seeds(seed: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(seed).spawn(3)
