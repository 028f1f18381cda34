"""An observation as one line: all that the decisions on one service look at, at one instant.

Documented in docs/observation.schema.json. `capacity` tells which solved model was at hand, because solving
takes a second and the operator goes on with the last one: left out, the one that fits is solved at once.
`written` is the target written since the instant before: left out, a target that has become what was
decided. `begin` is what was remembered before this instant; it stands where a recording begins, and where
the service was changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from itertools import pairwise
from typing import Any, Final

from penstock.model.observation import Histogram, Load, Observation, Pool
from penstock.policy.beliefs import LoopTimes
from penstock.policy.capacity_problem import CapacityProblem
from penstock.policy.decisions import ALONE, Surroundings
from penstock.policy.fallback_room import FallbackRoom
from penstock.policy.gateway_load import GatewayRates
from penstock.policy.lengths import ShapeCell
from penstock.policy.memory import ServiceMemory
from penstock.policy.request_classes import Refusal
from penstock.policy.step_factors import StepFactors
from penstock.records import scalars
from penstock.records.codec import decoder, encoder
from penstock.records.fault import RecordFault
from penstock.records.special import from_reading
from penstock.records.written import Written


class Unsaid(Enum):
    """The type of `UNSAID`."""

    UNSAID = "unsaid"


UNSAID: Final = Unsaid.UNSAID


@dataclass(frozen=True, slots=True)
class Solved:
    """The lengths and the engine's speed that the capacity table at hand was solved for."""

    cell: ShapeCell | None
    factors: StepFactors

    @classmethod
    def of(cls, problem: CapacityProblem | None) -> Solved | None:
        """Return what a problem is about; the rest of it is the service's spec."""
        return None if problem is None else cls(problem.cell, problem.factors)


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a recording begins: the times of the loop, and what was remembered."""

    times: LoopTimes
    memory: ServiceMemory


@dataclass(frozen=True, slots=True)
class Recorded:
    """One line. `service` is namespace/name, empty where there is only one."""

    seen: Observation
    around: Surroundings = ALONE
    service: str = ""
    generation: int | None = None
    solved: Solved | Unsaid | None = UNSAID
    written: Written | Unsaid | None = UNSAID
    begin: Begin | None = None


@dataclass(frozen=True, slots=True)
class _Fallback:
    room: FallbackRoom | None = None
    refusal: Refusal | None = None


_KNOWN = (
    "at", "service", "generation", "load", "pool", "conflict", "gateway", "draining", "fallback",
    "capacity", "written", "begin",
)  # fmt: skip
_MAY_BE_NEGATIVE = "queue_growth"


def observation_line(recorded: Recorded) -> dict[str, Any]:
    """Return plain JSON of a line."""
    seen, around = recorded.seen, recorded.around
    load = encoder(Load)(seen.load)
    load.setdefault("arrival_rate", from_reading(seen.load.arrival_rate))
    line: dict[str, Any] = {"at": scalars.from_float(seen.at)}
    if recorded.service:
        line["service"] = recorded.service
    if recorded.generation is not None:
        line["generation"] = recorded.generation
    line["load"] = load
    line["pool"] = None if seen.pool is None else encoder(Pool)(seen.pool)
    if seen.conflict:
        line["conflict"] = seen.conflict
    if around.rates is not None:
        line["gateway"] = encoder(GatewayRates)(around.rates)
    if around.draining:
        line["draining"] = around.draining
    if around.room is not None or around.refusal is not None:
        line["fallback"] = encoder(_Fallback)(_Fallback(around.room, around.refusal))
    if not isinstance(recorded.solved, Unsaid):
        line["capacity"] = None if recorded.solved is None else encoder(Solved)(recorded.solved)
    if not isinstance(recorded.written, Unsaid):
        line["written"] = None if recorded.written is None else encoder(Written)(recorded.written)
    if recorded.begin is not None:
        line["begin"] = encoder(Begin)(recorded.begin)
    return line


def read_observation(plain: Any) -> Recorded:
    """Return the observation of a parsed line. Raises RecordFault with the field."""
    line = scalars.mapping(plain, "")
    scalars.refuse_unknown(line, _KNOWN, "")
    scalars.require(line, ("at", "load", "pool"), "")
    fallback = decoder(_Fallback)(line.get("fallback") or {}, "fallback")
    rates, pool, begin = line.get("gateway"), line["pool"], line.get("begin")
    generation, capacity = line.get("generation"), line.get("capacity", UNSAID)
    written = line.get("written", UNSAID)
    draining = scalars.whole(line.get("draining", 0), "draining")
    around = Surroundings(
        None if rates is None else decoder(GatewayRates)(rates, "gateway"),
        _not_negative(draining, "draining"),
        fallback.room,
        fallback.refusal,
    )
    return Recorded(
        seen=Observation(
            at=scalars.number(line["at"], "at"),
            load=_load(line["load"]),
            pool=None if pool is None else _pool(pool),
            conflict=scalars.text(line.get("conflict", ""), "conflict"),
        ),
        around=around,
        service=scalars.text(line.get("service", ""), "service"),
        generation=None if generation is None else scalars.whole(generation, "generation"),
        solved=UNSAID if capacity is UNSAID else decoder(Solved | None)(capacity, "capacity"),
        written=UNSAID if written is UNSAID else decoder(Written | None)(written, "written"),
        begin=None if begin is None else decoder(Begin)(begin, "begin"),
    )


def _load(plain: Any) -> Load:
    found: Mapping[str, Any] = scalars.mapping(plain, "load")
    load: Load = decoder(Load)(found, "load")
    if "arrival_rate" not in found:
        raise RecordFault(
            "load.arrival_rate", "missing: write requests per second, or null where it was not measured"
        )
    for each in fields(Load):
        value = getattr(getattr(load, each.name), "value", None)
        if value is not None and each.name != _MAY_BE_NEGATIVE:
            _not_negative(value, f"load.{each.name}")
    for name in ("ttft", "tpot", "latency"):
        for percentile, reading in getattr(load, name).items():
            if not 0 < percentile < 1:
                raise RecordFault(f"load.{name}.{percentile:g}", "a percentile is between 0 and 1")
            _not_negative(reading.otherwise(0.0), f"load.{name}.{percentile:g}")
    _require_histogram(load.input_lengths, "load.input_lengths")
    _require_histogram(load.output_lengths, "load.output_lengths")
    return load


def _require_histogram(histogram: Histogram | None, path: str) -> None:
    """Refuse arrays that are no histogram; a number that is none fails each comparison here."""
    if histogram is None:
        return
    bounds, counts, mean = histogram.upper_bounds, histogram.counts, histogram.mean
    if len(counts) != len(bounds):
        raise RecordFault(path, f"{len(counts)} counts for {len(bounds)} upper bounds")
    for low, high in pairwise((-math.inf, *bounds)):
        if not low < high:
            raise RecordFault(f"{path}.upper_bounds", f"{high:g} does not ascend")
    for index, count in enumerate(counts):
        if not 0 <= count < math.inf:
            raise RecordFault(f"{path}.counts[{index}]", f"{count:g} is no count")
    if mean is not None and not 0 <= mean < math.inf:
        raise RecordFault(f"{path}.mean", f"{mean:g} is no mean")


def _pool(plain: Any) -> Pool:
    pool: Pool = decoder(Pool)(plain, "pool")
    for name in ("target", "current", "ready", "stuck", "unschedulable"):
        _not_negative(getattr(pool, name), f"pool.{name}")
    return pool


def _not_negative(value: Any, path: str) -> Any:
    if value < 0:
        raise RecordFault(path, f"{value:g} is below 0")
    return value
