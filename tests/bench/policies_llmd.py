"""(a) The published llm-d profile: its own policy's figure first, then ours and all others.

Qwen3-32B on two H100, about 4000 tokens in and 1000 out, evenly spaced stages, TTFT 3 s and TPOT 100 ms both
met per request, start-up 100 s, 3 to 8 replicas. Published: SLO-aware KEDA 95.8 % at 5.93 average replicas,
static 8 100 %. Average replicas, hours and cost are from the start until the pool is back at its floor.
"""

from __future__ import annotations

import statistics

import numpy as np

from bench.dataplane_report import SIMULATION, Figure, Goal, print_figures, print_grid
from bench.policies_run import OURS, Result, Store, times
from penstock.model.profiles import profile_named
from penstock.queueing.replica import ReplicaModel
from penstock.queueing.traffic import TrafficShape
from penstock.sim.policies.registry import KNOBS, names
from penstock.sim.run import Run
from penstock.sim.scenario import Objectives, Scenario, StartUp
from penstock.sim.static import Static

SECTION, PROFILE = "a", "qwen3-32b-h100-x2"
STAGES = ((2.0, 330.0), (4.0, 360.0), (6.0, 360.0), (8.0, 360.0), (10.0, 360.0), (4.0, 360.0), (1.0, 300.0))
KNEE_PER_SECOND = 1.45  # sustainable load of a replica there: 1.4 to 1.5 requests a second
FLOOR, MOST = 3, 8
AFTERWARDS_SECONDS = 1800.0  # to come back to the floor
DRAWS = (1, 2, 3, 4, 5)  # of lengths and scrape offsets: how much of a figure is luck
DRAWN = ("penstock", "slo-keda", "hpa-max", "clairvoyant")
# Ours beside the default of five minutes: with a short one, and with what the published policy's HPA waits.
SHORT_WINDOW_SECONDS, PUBLISHED_WINDOW_SECONDS = 60.0, 180.0
WINDOW, _ = KNOBS[OURS]  # the name of that setting
LENGTH_SPREAD = 0.1  # "about" 4000 and 1000: uniform within a tenth
PUBLISHED = (0.958, 5.93)
# How far theirs may be off in attainment and replicas: 2.6 points and a tenth of a replica are (93.2 % at
# 6.03). Much further off, and the comparison would not be with their policy.
REPRODUCED = (0.03, 0.3)


def slower() -> float:
    """Return by what the shipped profile's steps are longer at the published knee."""
    model = ReplicaModel(profile_named(PROFILE), TrafficShape.uniform(4000, 1000))
    return model.saturation_rate_per_second / KNEE_PER_SECOND


def published_profile(draw: int = 1) -> Scenario:
    """Return the load of the published benchmark; another `draw` has other lengths."""
    arrivals, start = [], 0.0
    for rate, seconds in STAGES:
        arrivals.append(start + np.arange(0.0, seconds, 1 / rate))
        start += seconds
    times, random = np.concatenate(arrivals), np.random.default_rng(2 + draw)
    inputs, outputs = (
        np.rint(mean * random.uniform(1 - LENGTH_SPREAD, 1 + LENGTH_SPREAD, times.size)).astype(np.int64)
        for mean in (4000, 1000)
    )
    return Scenario(
        name="llm-d Qwen3-32B" if draw == 1 else f"llm-d Qwen3-32B, draw {draw}",
        arrivals_seconds=times,
        input_tokens=inputs,
        output_tokens=outputs,
        profile=profile_named(PROFILE).at_speed(slower()),
        slo=Objectives(3.0, 0.1),
        min_replicas=FLOOR,
        max_replicas=MOST,
        initial_replicas=FLOOR,
        start_up=StartUp(100.0),
        end_seconds=start + AFTERWARDS_SECONDS,
    )


def back_at_floor(run: Run) -> float:
    """Return when the pool was last above its floor after the load; the load's end at the earliest."""
    loaded = sum(seconds for _, seconds in STAGES)
    above = np.flatnonzero(run.timeline.paid > FLOOR)
    if not above.size:
        return loaded
    if above[-1] + 1 == run.timeline.at.size:
        return run.end_seconds  # it never came back
    return max(loaded, float(run.timeline.at[above[-1] + 1]))


def measure(store: Store, *, quick: bool) -> list[Figure]:
    """Print the table and return the figures with their goals."""
    scenario = published_profile()
    chosen = ("penstock", "slo-keda", "hpa-max", "clairvoyant") if quick else names()
    rows = [store.run(SECTION, scenario, name, until=back_at_floor) for name in chosen]
    short, alike = (
        store.run(SECTION, scenario, OURS, tuning={WINDOW: seconds}, until=back_at_floor)
        for seconds in (SHORT_WINDOW_SECONDS, PUBLISHED_WINDOW_SECONDS)
    )
    rows += [short, alike]
    full = store.run(SECTION, scenario, "static 8", make=lambda _: Static(MOST), until=back_at_floor)
    rows.append(full)
    print_grid(
        f"(a) published llm-d profile; steps x {slower():.3f}, knee at {KNEE_PER_SECOND} requests/s each",
        COLUMNS,
        [_row(store, each) for each in sorted(rows, key=lambda each: -each.attainment)],
    )
    print_grid(f"(a) {len(DRAWS)} draws: mean (range)", ["SLO met %", "replicas"], _draws(store))
    by_name = {each.policy: each for each in rows if not each.tuning}
    ours, theirs = by_name["penstock"], by_name["slo-keda"]
    figures = [
        Figure("(a) llm-d", f"published policy reproduced: attainment off {100 * PUBLISHED[0]:.1f} % by",
               100 * abs(theirs.attainment - PUBLISHED[0]), "points", SIMULATION,
               (Goal.AT_MOST, 100 * REPRODUCED[0])),
        Figure("(a) llm-d", f"published policy reproduced: replicas off {PUBLISHED[1]} by",
               abs(theirs.average - PUBLISHED[1]), "replicas", SIMULATION, (Goal.AT_MOST, REPRODUCED[1])),
        Figure("(a) llm-d", "ours: SLO met", 100 * ours.attainment, "%", SIMULATION),
        Figure("(a) llm-d", "ours: average replicas", ours.average, "", SIMULATION),
        Figure("(a) llm-d", "ours, scaleDownWindow as published (180 s): SLO met",
               100 * alike.attainment, "%", SIMULATION),
        Figure("(a) llm-d", "ours, scaleDownWindow as published: average replicas",
               alike.average, "", SIMULATION),
        Figure("(a) llm-d", "that: >= 97 % at <= 5.9, or >= 95.8 % at <= 5.3 (1: yes)",
               float(dominates(alike)), "", SIMULATION, (Goal.EXACTLY, 1.0)),
        Figure("(a) llm-d", "the same with the default, five minutes (1: yes)",
               float(dominates(ours)), "", SIMULATION, (Goal.EXACTLY, 1.0)),
    ]  # fmt: skip
    print_figures(figures, "(a) llm-d's published profile")
    return figures


def dominates(result: Result) -> bool:
    """Whether a result reaches one of the two goals."""
    attained, replicas = result.attainment, result.average
    return (attained >= 0.97 and replicas <= 5.9) or (attained >= 0.958 and replicas <= 5.3)


def _draws(store: Store) -> list[tuple[str, list[str]]]:
    """Return the lines of a few policies over all draws of the load."""
    rows = []
    drawn: list[tuple[str, dict[str, float]]] = [(OURS, {WINDOW: PUBLISHED_WINDOW_SECONDS})]
    drawn += [(name, {}) for name in DRAWN]
    for name, tuning in drawn:
        results = [
            store.run(SECTION, published_profile(draw), name, tuning=tuning, until=back_at_floor, seed=draw)
            for draw in DRAWS
        ]
        attained, average = [100 * each.attainment for each in results], [each.average for each in results]
        cells = [
            f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for values in (attained, average)
        ]
        rows.append((_title(results[0]), cells))
    return rows


COLUMNS = (
    "SLO met %", "replicas", "hours", "cost USD", "x bound", "until s", "events", "TTFT p95 s", "TPOT p95 ms",
)  # fmt: skip


def _title(result: Result) -> str:
    seconds = result.tuning.get(WINDOW)
    window = "" if seconds is None else f", scaleDownWindow {seconds / 60:g} min"
    return (result.title or result.policy) + window


def _row(store: Store, result: Result) -> tuple[str, list[str]]:
    return _title(result), [
        f"{100 * result.attainment:.2f}",
        f"{result.average:.2f}",
        f"{result.replica_hours:.2f}",
        f"{result.cost:.0f}",
        times(store.over_bound(result)),
        f"{result.until_seconds:.0f}",
        f"{result.scale_events}",
        f"{result.ttft_p95_seconds:.2f}",
        f"{1e3 * result.tpot_p95_seconds:.0f}",
    ]
