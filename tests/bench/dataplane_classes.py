"""Two classes and a fallback under overload: who keeps the SLO, who is shed, what the fallback gets.

Interactive requests at half of capacity all the time, batch rising to twice capacity within seconds; batch
may fill 70 % of the limit and spill to a fallback with a small limit of its own. The fallback is the light
upstream: it counts exactly. Told beside it: batch at once, where the prompts that fill the empty places
hold up everybody's first token for a second or two, whatever the limit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.dataplane_overload import REPLICAS, fleet_limit, watched
from bench.dataplane_report import ENVOY_AND_ENGINES, Figure, Goal
from bench.engines import Engines, stand_in_fleet
from bench.gateway import Gateway, Upstream, route
from bench.open_loop import Answer, Generator
from bench.simulated_pool import Offered
from penstock.model.traffic import ClassShare, RouteState

SECTION = "classes"
INTERACTIVE, BATCH = "interactive", "batch"
_LOADS = {INTERACTIVE: 0.5, BATCH: 2.0}  # times capacity
_BATCH_RATIO = 0.7
_FALLBACK_LIMIT = 20
_SETTLING_SECONDS, _SECONDS, _QUICK_SECONDS = 4.0, 30.0, 20.0
_RISE_SECONDS = 10.0


def _state(port: int, engines: Engines, fallback: Upstream) -> RouteState:
    fleet = stand_in_fleet(REPLICAS)
    state = route(
        "classes",
        listen_port=port,
        upstream_ports=engines.ports,
        limit=fleet_limit(fleet),
        fallback_ports=(fallback.port,),
        fallback_limit=_FALLBACK_LIMIT,
    )
    assert state.plan.fallback is not None
    plan = replace(
        state.plan,
        class_header="x-request-class",
        default_class=BATCH,
        classes=(ClassShare(INTERACTIVE, 100, 1.0), ClassShare(BATCH, 0, _BATCH_RATIO)),
        fallback=replace(state.plan.fallback, classes=(BATCH,)),
    )
    return replace(state, plan=plan)


def _offered(rise_seconds: float, seconds: float) -> tuple[Offered, list[str]]:
    """Return both classes' requests in order; batch begins after the settling and rises so long."""
    fleet = stand_in_fleet(REPLICAS)
    random = np.random.default_rng(29)
    end = _SETTLING_SECONDS + seconds
    drawn: list[tuple[float, str]] = []
    for name, load in _LOADS.items():
        times = random.uniform(0, end, random.poisson(load * fleet.capacity_per_second * end))
        if name == BATCH:
            since = times - _SETTLING_SECONDS
            share = np.clip(since / rise_seconds, 0, 1) if rise_seconds else (since > 0).astype(float)
            times = times[random.random(times.size) < share]
        drawn += [(float(at), name) for at in times]
    drawn.sort()
    inputs, outputs = fleet.shape.sample(len(drawn), random)
    whole = [np.maximum(1, np.rint(each)).astype(np.int64) for each in (inputs, outputs)]
    return Offered(np.array([at for at, _ in drawn]), *whole), [name for _, name in drawn]


async def class_figures(
    gateway: Gateway, engines: Engines, fallback: Upstream, port: int, *, quick: bool
) -> list[Figure]:
    """Return what each class and the fallback got."""
    gateway.publish([_state(port, engines, fallback)])
    await gateway.has_everything()
    seconds = _QUICK_SECONDS if quick else _SECONDS
    figures = await _run(engines, fallback, port, *_offered(_RISE_SECONDS, seconds))
    if not quick:
        at_once = await _run(engines, fallback, port, *_offered(0.0, seconds))
        told = at_once[0]
        figures.append(replace(told, name=f"the same, batch at once: {told.name}", goal=None))
    return figures


async def _run(
    engines: Engines, fallback: Upstream, port: int, offered: Offered, classes: list[str]
) -> list[Figure]:
    fleet = stand_in_fleet(REPLICAS)
    fallback.state()
    answers, void = await watched(Generator((f"http://127.0.0.1:{port}",)).run(offered, classes), engines)
    peak = fallback.state()["most"]
    counted = [answer for answer in answers if answer.due >= _SETTLING_SECONDS]
    by_class = {name: [each for each in counted if each.request_class == name] for name in _LOADS}
    interactive = by_class[INTERACTIVE]
    kept = _ratio(sum(each.good(fleet.ttft_seconds, fleet.tpot_seconds) for each in interactive), interactive)
    spilled = sum(each.served_by == "classes-small" for each in by_class[BATCH])

    def figure(name: str, value: float, unit: str = "", goal: tuple[Goal, float] | None = None) -> Figure:
        return Figure(SECTION, name, value, unit, ENVOY_AND_ENGINES, goal)

    attained = figure(
        f"interactive within its SLO, {len(interactive)} requests", kept, "", (Goal.AT_LEAST, 0.99)
    )
    return [
        replace(attained, void=void),  # counts are true on a slow machine too
        figure("interactive shed", _shed(interactive), "", (Goal.AT_MOST, 0.01)),
        figure("batch shed", _shed(by_class[BATCH])),
        figure("batch served by the fallback", _ratio(spilled, by_class[BATCH])),
        figure(
            "most in flight at the fallback", peak, f"of {_FALLBACK_LIMIT}", (Goal.AT_MOST, _FALLBACK_LIMIT)
        ),
    ]


def _shed(answers: list[Answer]) -> float:
    return _ratio(sum(answer.status == 429 for answer in answers), answers)


def _ratio(count: int, answers: list[Answer]) -> float:
    return count / len(answers) if answers else float("nan")
