"""(c) What each part of ours is worth: the same policy with one part switched off.

On the published llm-d profile, and on the real hour of conversations (start-up 120 s, peak 4); forecasts on
two hours of m-large too. "mean" sizes for the 63rd percentile, which is the mean of an exponential law.
Without pooling the model takes N replicas as N queues. "perfect forecast" knows the highest rate of the lead
time: what is left for better ones. Calibration is looked at where the engine is 30 % slower than the profile
says, with up to half as many replicas more: the published eight would not carry that load however chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.dataplane_report import print_grid
from bench.policies_llmd import back_at_floor, published_profile
from bench.policies_matched import HOURS, SWEPT_START_UP
from bench.policies_run import BOUND, Result, Store, times
from bench.policies_traces import available, scenario
from penstock.policy.demand import Demand
from penstock.policy.estimate import Estimate
from penstock.policy.memory import NO_CALIBRATION, NO_LEAD, NO_SPEED, ServiceMemory
from penstock.policy.token_work import cell_work
from penstock.queueing.balancer import Balancer
from penstock.sim.policies.clairvoyant import STEP_SECONDS, WINDOW_SECONDS
from penstock.sim.policies.penstock import Penstock, Settings
from penstock.sim.policies.sizing import highest_ahead, true_rates
from penstock.sim.policy_port import ScalingPolicy, Signals
from penstock.sim.scenario import Scenario

SECTION = "c"
SLOWER = 1.3
MEAN_PERCENTILE = 0.63


class WithoutLeadTime(Penstock):
    """Plans for the next tick."""

    name = "without lead time"

    def remember(self, memory: ServiceMemory) -> ServiceMemory:
        """Forget the starts that were seen."""
        return replace(memory, lead=NO_LEAD)


class WithoutBound(Penstock):
    """Sizes for the level that is measured."""

    name = "without forecast bound"

    def believe(self, estimate: Estimate) -> Estimate:
        """Leave the level alone of the demand."""
        demand = estimate.demand
        if demand is None:
            return estimate
        return replace(estimate, demand=Demand(demand.offered_per_second, 0.0, demand.lead_seconds))


class PerfectForecast(Penstock):
    """Is told the highest rate of the lead time, counted over a minute; all else is as it is."""

    name = "perfect forecast"

    def __init__(self, load: Scenario, settings: Settings) -> None:
        super().__init__(load, settings)
        rates = true_rates(load, window_seconds=WINDOW_SECONDS, step_seconds=STEP_SECONDS)
        ahead = math.ceil((load.start_up.median_seconds + self.interval_seconds) / STEP_SECONDS)
        # In tokens: what the capacity is known for is not the mean request of the trace.
        work = load.input_tokens.mean() + self.engine.output_weight * load.output_tokens.mean()
        self._heaviest = work * highest_ahead(rates, ahead)
        self._now = 0.0

    def decide(self, seen: Signals) -> int:
        """Remember what time it is."""
        self._now = seen.at
        return super().decide(seen)

    def believe(self, estimate: Estimate) -> Estimate:
        """Put what will come in the place of the bound."""
        demand, cell = estimate.demand, self.memory.lengths.cell
        if demand is None or cell is None:
            return estimate
        heaviest = float(self._heaviest[min(round(self._now / STEP_SECONDS), self._heaviest.size - 1)])
        highest = heaviest / cell_work(cell, self.engine.output_weight)
        level = min(demand.offered_per_second, highest)
        return replace(estimate, demand=Demand(level, highest - level, demand.lead_seconds))


class WithoutCalibration(Penstock):
    """Believes its profile."""

    name = "without calibration"

    def remember(self, memory: ServiceMemory) -> ServiceMemory:
        """Forget the engine's speed."""
        return replace(memory, speed=NO_SPEED, calibration=NO_CALIBRATION)


@dataclass(frozen=True, slots=True)
class Ablation:
    """A name and the policy that goes with it."""

    name: str
    make: Callable[[Scenario], ScalingPolicy]


AS_IT_IS = (
    Ablation("as it is", lambda load: Penstock(load, Settings())),
    Ablation("without lead time", lambda load: WithoutLeadTime(load, Settings(initial_startup_seconds=0.0))),
    Ablation("without forecast bound", lambda load: WithoutBound(load, Settings())),
    Ablation("perfect forecast", lambda load: PerfectForecast(load, Settings())),
    Ablation("without pooling", lambda load: Penstock(load, Settings(balancer=Balancer.RANDOM))),
    Ablation("mean instead of p95", lambda load: Penstock(load, Settings(percentile=MEAN_PERCENTILE))),
)

FORECASTS = tuple(each for each in AS_IT_IS if each.name in ("as it is", PerfectForecast.name))


def slower(load: Scenario) -> Scenario:
    """Return the load on an engine that is 30 % slower than its profile."""
    return replace(
        load,
        name=f"{load.name}, engine 30 % slower",
        profile=load.profile.at_speed(SLOWER),
        max_replicas=load.max_replicas * 3 // 2,
    )


def calibrations(profiled: Scenario) -> tuple[Ablation, ...]:
    """Return ours with and without calibration, both given the profile that is wrong."""
    settings = Settings(profile=profiled.profile)
    return (
        Ablation("calibrated", lambda load: Penstock(load, settings)),
        Ablation("without calibration", lambda load: WithoutCalibration(load, settings)),
    )


def measure(store: Store, traces: Path, *, quick: bool) -> None:
    """Print what is lost or saved without each part, and what the clairvoyant needs."""
    published = published_profile()
    for load, parts in cases(traces, quick=quick):
        until = back_at_floor if load.name.startswith(published.name) else None
        rows = [store.run(SECTION, load, part.name, make=part.make, until=until) for part in parts]
        rows.append(store.run(SECTION, load, BOUND, until=until))
        print_grid(f"(c) {load.name}", COLUMNS, [_row(store, row) for row in rows])


def cases(traces: Path, *, quick: bool) -> Iterator[tuple[Scenario, Sequence[Ablation]]]:
    """Yield the loads, each with the parts that are judged on it."""
    for load in loads(traces, quick=quick):
        yield load, AS_IT_IS
        yield slower(load), calibrations(load)
    # The worst bursts that a count can follow; there only forecasts are looked at.
    for workload, trace in () if quick else available(traces):
        if workload.name == "servegen m-large":
            load = scenario(workload, trace, peak=4, start_up_seconds=SWEPT_START_UP, hours=HOURS)
            yield load, FORECASTS


def loads(traces: Path, *, quick: bool) -> list[Scenario]:
    """Return the loads that parts are judged on."""
    found = [published_profile()]
    for workload, trace in available(traces):
        if workload.name == "azure23 conv" and not quick:
            found.append(scenario(workload, trace, peak=4, start_up_seconds=SWEPT_START_UP, hours=None))
    return found


COLUMNS = ("SLO met %", "average replicas", "replica-hours", "cost USD", "x bound", "events")


def _row(store: Store, result: Result) -> tuple[str, list[str]]:
    return result.policy, [
        f"{100 * result.attainment:.2f}",
        f"{result.average:.2f}",
        f"{result.replica_hours:.2f}",
        f"{result.cost:.0f}",
        times(store.over_bound(result)),
        f"{result.scale_events}",
    ]
