"""(b) Request traces: every shipped one, at a peak of 4, 16 and 48 replicas of Llama-3.1-8B on an H100.

TTFT 500 ms and TPOT 50 ms at p95. A trace is multiplied to its peak: each request becomes k or k+1 of the
same lengths (k+1 by chance), copies up to 5 s earlier or later, so that bursts of a minute stay as large.
Peak of N: the busiest five minutes need N replicas by the model. Days may be cut to hours around the peak.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from penstock.model.profiles import profile_named
from penstock.queueing.domain import FloatArray
from penstock.sim.policies.sizing import table_of, true_rates
from penstock.sim.scenario import LARGEST_FLEET, Objectives, Scenario, StartUp
from penstock.traces.reading import Trace, read_trace

SHIPPED = Path(__file__).parents[1] / "data"
REFERENCE = "llama-3.1-8b-h100"
SLO = Objectives(0.5, 0.05)
START_UPS = (45.0, 120.0, 300.0)
PEAK_SECONDS, APART_SECONDS = 300.0, 5.0
ROOM = 2.5  # the largest count allowed over that at the peak: nobody's mistakes are cut off


@dataclass(frozen=True, slots=True)
class Workload:
    """A shipped trace; `hours` around its peak (None: all of it)."""

    name: str
    file: str
    smooth: bool  # within 10 % of the clairvoyant bound is asked there, else 20 %


WORKLOADS = (
    Workload("azure23 conv", "azure23_conv.csv.gz", smooth=True),
    Workload("azure23 code", "azure23_code.csv.gz", smooth=False),
    Workload("azure24 conv", "azure24_conv_tue_recon_x0125.csv.gz", smooth=True),
    Workload("servegen m-large", "servegen_mlarge_day_x0033.csv.gz", smooth=False),
)


def available(traces: Path) -> Iterator[tuple[Workload, Trace]]:
    """Yield the traces there are, one of which the repository has itself; say which are not measured."""
    for workload in WORKLOADS:
        path = next(
            (each / workload.file for each in (traces, SHIPPED) if (each / workload.file).exists()), None
        )
        if path is None:
            print(
                f"{workload.name} is not measured: no {workload.file} in {traces} (--traces)", file=sys.stderr
            )
        else:
            yield workload, read_trace(path)


def around_peak(trace: Trace, hours: float | None) -> Trace:
    """Return the hours around the busiest five minutes; all of a trace that is no longer than that."""
    span = 0.0 if hours is None else 3600 * hours
    if hours is None or trace.arrivals[-1] <= span:
        return trace
    edges = np.arange(0.0, trace.arrivals[-1] + PEAK_SECONDS, PEAK_SECONDS)
    busiest = float(edges[np.argmax(np.histogram(trace.arrivals, edges)[0])]) + PEAK_SECONDS / 2
    start = min(max(0.0, busiest - span / 2), trace.arrivals[-1] - span)
    chosen = (trace.arrivals >= start) & (trace.arrivals < start + span)
    return Trace(trace.arrivals[chosen] - start, trace.inputs[chosen], trace.outputs[chosen])


def multiplied(trace: Trace, factor: float) -> Trace:
    """Return the trace at `factor` times its rate."""
    random = np.random.default_rng(17)
    count = trace.arrivals.size
    copies = math.floor(factor) + (random.random(count) < factor % 1)
    source = np.repeat(np.arange(count), copies)
    first = np.concatenate([[True], source[1:] != source[:-1]]) if source.size else np.zeros(0, bool)
    apart: FloatArray = np.where(first, 0.0, random.uniform(-APART_SECONDS, APART_SECONDS, source.size))
    times = np.clip(trace.arrivals[source] + apart, 0.0, trace.arrivals[-1])
    order = np.argsort(times, kind="stable")
    return Trace(times[order], trace.inputs[source][order], trace.outputs[source][order])


def scenario(
    workload: Workload, trace: Trace, *, peak: int, start_up_seconds: float, hours: float | None
) -> Scenario:
    """Return a trace as a load whose peak needs `peak` replicas, and a fleet that begins where it should."""
    cut = around_peak(trace, hours)
    one = _scenario("", cut, peak=peak, initial=1, start_up_seconds=start_up_seconds)
    busiest = float(true_rates(one, window_seconds=PEAK_SECONDS, step_seconds=60.0).max())
    table = table_of(one)
    load = multiplied(cut, 0.98 * table.max_rate(peak) / busiest)
    begins = load.arrivals.searchsorted(PEAK_SECONDS) / PEAK_SECONDS
    initial = min(table.replicas_for(float(begins)), math.ceil(ROOM * peak))
    span = "" if hours is None or cut is trace else f", {hours:g} h"
    name = f"{workload.name}{span}, peak {peak}, start-up {start_up_seconds:g} s"
    return _scenario(name, load, peak=peak, initial=initial, start_up_seconds=start_up_seconds)


def _scenario(name: str, load: Trace, *, peak: int, initial: int, start_up_seconds: float) -> Scenario:
    return Scenario(
        name=name,
        arrivals_seconds=load.arrivals,
        input_tokens=load.inputs,
        output_tokens=load.outputs,
        profile=profile_named(REFERENCE),
        slo=SLO,
        min_replicas=1,
        max_replicas=min(math.ceil(ROOM * peak), LARGEST_FLEET),
        initial_replicas=initial,
        start_up=StartUp(start_up_seconds),
    )
