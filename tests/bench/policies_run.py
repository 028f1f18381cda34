"""One policy on one scenario for the policies' benchmark: run, judge, store; what is stored is not run again.

Results are lines of JSON in DIR/results.jsonl, by section, workload, policy and tuning, so that a sweep of
hours can be stopped and taken up; `--fresh` begins anew, `--ours` runs anew only what is ours: peers do not
change with the operator. Solved capacity tables are kept beside them.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from bench.dataplane_report import console
from penstock.sim.policies.registry import policy
from penstock.sim.policy_port import ScalingPolicy
from penstock.sim.run import RequestStatus, Run
from penstock.sim.scenario import Scenario
from penstock.sim.simulate import simulate

SEED = 1
OURS = "penstock"
BOUND = "clairvoyant"
ABLATIONS = "c"  # the section in which every result but the bound is ours
SETTLING_SECONDS = 300.0
COST_PER_REPLICA_HOUR = 4.0  # USD, the example of theory.md


@dataclass(frozen=True, slots=True)
class Result:
    """How one policy did. `average` replicas are from the start to `until_seconds`."""

    section: str
    workload: str
    policy: str  # name in the registry, or of an ablation
    tuning: dict[str, float]
    attainment: float
    replica_hours: float
    average: float
    scale_events: int
    until_seconds: float
    ttft_p95_seconds: float
    tpot_p95_seconds: float
    shed: float = 0.0
    title: str = ""
    # Where something stands in front of the pool, see policies_bursts.
    by_fallback: float = 0.0  # of all requests: answered there within both objectives
    fallback_hours: float = 0.0
    admitted_met: float = math.nan  # of those that our own pool answered
    admitted_late: tuple[float, float] = (math.nan, math.nan)  # of these: beyond TTFT, beyond TPOT
    # Of the requests after the first five minutes: what is ordered at the start is ready only then.
    settled: float = math.nan

    @property
    def key(self) -> str:
        """What makes two results the same run."""
        return _key(self.section, self.workload, self.policy, self.tuning)

    @property
    def ours(self) -> bool:
        """Whether it depends on the operator's code."""
        return self.policy == OURS or self.section == ABLATIONS

    @property
    def cost(self) -> float:
        """What was paid until `until_seconds`, the fallback's replicas included, USD."""
        return COST_PER_REPLICA_HOUR * (self.replica_hours + self.fallback_hours)

    def over(self, other: Result) -> float:
        """Return what an hour of this costs over what one of `other` does: the two may end at other times."""
        return (self.cost / self.until_seconds) / (other.cost / other.until_seconds)


class Forget(StrEnum):
    """Which stored results are run anew."""

    NOTHING = "nothing"
    OURS = "ours"
    ALL = "all"


@dataclass(slots=True)
class Store:
    """Results on disk, one line each; runs what is not there."""

    directory: Path
    known: dict[str, Result] = field(default_factory=dict)

    @classmethod
    def at(cls, directory: Path, forget: Forget) -> Store:
        """Open or begin the results in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        store, path = cls(directory), directory / "results.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        for result in (Result(**json.loads(line)) for line in lines):
            if forget is Forget.NOTHING or (forget is Forget.OURS and not result.ours):
                store.known[result.key] = result
        path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in store.known.values()))
        return store

    def run(
        self,
        section: str,
        scenario: Scenario,
        name: str,
        *,
        tuning: dict[str, float] | None = None,
        make: Callable[[Scenario], ScalingPolicy] | None = None,
        until: Callable[[Run], float] | None = None,
        seed: int = SEED,
    ) -> Result:
        """Return the result of a policy by name, or of the one that `make` makes under that name."""
        chosen = tuning or {}
        key = _key(section, scenario.name, name, chosen)
        if key in self.known:
            return self.known[key]
        began = time.perf_counter()
        made = policy(name, scenario, **chosen) if make is None else make(scenario)
        run = simulate(scenario, made, seed)
        result = replace(
            judged(run, scenario, None if until is None else until(run)),
            section=section,
            policy=name,
            tuning=chosen,
            title=made.name,
        )
        self.known[key] = result
        with (self.directory / "results.jsonl").open("a") as lines:
            lines.write(json.dumps(asdict(result)) + "\n")
        shown = ", ".join(f"{k} {v:g}" for k, v in chosen.items())
        console.print(
            f"[dim]{section} {scenario.name}: {name} {shown} {100 * result.attainment:.2f} %, "
            f"{result.average:.2f} replicas, {time.perf_counter() - began:.0f} s"
        )
        return result

    def over_bound(self, result: Result) -> float | None:
        """Return cost an hour over the clairvoyant's of the same section and workload; None: not run."""
        bound = self.known.get(_key(result.section, result.workload, BOUND, {}))
        return None if bound is None else result.over(bound)

    def write_csv(self) -> Path:
        """Write all results as a table; where no clairvoyant ran, the ratio to it is empty."""
        path, names = self.directory / "results.csv", [each.name for each in fields(Result)]
        with path.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow([*names, "cost_usd", "over_clairvoyant"])
            for result in self.known.values():
                cells = [_cell(getattr(result, name)) for name in names]
                writer.writerow([*cells, result.cost, self.over_bound(result)])
        return path


def judged(run: Run, scenario: Scenario, until: float | None) -> Result:
    """Return what a run was worth; section, policy and tuning are the caller's."""
    end = run.end_seconds if until is None else until
    own = run.status == RequestStatus.SERVED
    served, tpot = run.ttft_seconds[own], run.tpot_seconds[own & ~np.isnan(run.tpot_seconds)]
    attainment = run.attainment_ratio(scenario.slo)
    return Result(
        section="",
        workload=run.scenario,
        policy="",
        tuning={},
        attainment=attainment,
        replica_hours=run.replica_seconds(end) / 3600,
        average=run.average_replicas(end),
        scale_events=len(run.scale_events),
        until_seconds=end,
        ttft_p95_seconds=float(np.quantile(served, 0.95)) if served.size else float("nan"),
        tpot_p95_seconds=float(np.quantile(tpot, 0.95)) if tpot.size else float("nan"),
        shed=float(np.isnan(run.ttft_seconds).mean()),
        by_fallback=run.attainment_ratio(scenario.slo, (RequestStatus.FELL_BACK,)),
        fallback_hours=0.0 if scenario.fallback is None else scenario.fallback.replicas * end / 3600,
        admitted_met=attainment / float(own.mean()) if own.any() else math.nan,
        admitted_late=(
            float((served > scenario.slo.ttft_seconds).mean()),
            float((run.tpot_seconds[own] > scenario.slo.tpot_seconds).mean()),
        )
        if own.any()
        else (math.nan, math.nan),
        settled=_settled(run, scenario),
    )


def _settled(run: Run, scenario: Scenario) -> float:
    later = scenario.arrivals_seconds >= SETTLING_SECONDS
    return float(run.good(scenario.slo)[later].mean()) if later.any() else math.nan


def times(ratio: float | None) -> str:
    """Return a ratio to the bound for a table."""
    return "" if ratio is None else f"{ratio:.2f}"


def _key(section: str, workload: str, policy_name: str, tuning: dict[str, float]) -> str:
    return json.dumps([section, workload, policy_name, tuning], sort_keys=True)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
