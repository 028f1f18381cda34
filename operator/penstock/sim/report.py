"""The report of a simulation as one HTML file: no script, nothing fetched, readable in print.

It is XML as well, so that other programs can read the tables out of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from penstock.queueing.domain import FloatArray
from penstock.sim.figures import Figures, rates
from penstock.sim.frontier import frontier
from penstock.sim.plots import Axes, Line, plot, round_up
from penstock.sim.scenario import Scenario

INK, SOFT, WARM = "#1f5fa8", "#7aa6d6", "#c46a00"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; }
body { padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 1.6em 0 0.3em; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.6em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #888; }
table.facts { width: auto; } table.facts td { text-align: left; white-space: normal; }
tr.best td { font-weight: 600; } .missed { color: #b00020; } p.note { color: #555; }
svg { width: 100%; height: auto; display: block; }
section { break-inside: avoid; }
@media print { body { margin: 0; font-size: 11px; max-width: none; } }
"""
COLUMNS = (
    "policy", "SLO attained", "replica-hours", "mean", "peak", "cost", "TTFT p50", "p95", "p99",
    "TPOT p50", "p95", "p99", "refused", "up / down",
)  # fmt: skip


Decades = tuple[float, float]


def report(
    title: str, facts: Mapping[str, str], scenario: Scenario, results: Sequence[Figures], currency: str
) -> str:
    """Return the page; `facts` are shown above the table, in their order."""
    end = results[0].end_seconds
    parts = [
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        '<table class="facts"><tbody>',
        *(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in facts.items()),
        "</tbody></table>",
        "<h2>Policies</h2>",
        *_table(scenario, results, currency),
        '<p class="note">SLO attained: requests answered within TTFT and TPOT, out of all. '
        "Replica-hours count what is paid for: starting, ready and draining. Times are at the client; "
        "percentiles are those of answered requests.</p>",
        "<section><h2>What attainment costs</h2>",
        frontier(results),
        '<p class="note">Filled: no other policy here attains as much for less.</p></section>',
        "<section><h2>Load</h2>",
        _load(scenario, results[0].series.edges, end),
        "</section>",
    ]
    most = max(each.peak_replicas for each in results)
    ttft = _decades([each.series.ttft_seconds for each in results], scenario.slo.ttft_seconds)
    tpot = _decades([each.series.tpot_seconds for each in results], scenario.slo.tpot_seconds)
    for each in results:
        parts += _section(scenario, each, end, Axes(end, 0.0, float(most + 1), "replicas", 150), (ttft, tpot))
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _row(figures: Figures, currency: str) -> tuple[str, ...]:
    """Return the cells of a policy, in the order of COLUMNS."""
    cost = "" if figures.cost is None else f"{figures.cost:,.2f} {currency}"
    return (
        figures.policy,
        f"{100 * figures.attainment_ratio:.2f} %",
        f"{figures.replica_hours:,.1f}",
        f"{figures.average_replicas:.2f}",
        f"{figures.peak_replicas}",
        cost,
        *(_milliseconds(figures.ttft_seconds[each]) for each in (0.5, 0.95, 0.99)),
        *(_milliseconds(figures.tpot_seconds[each]) for each in (0.5, 0.95, 0.99)),
        f"{100 * figures.refused_ratio:.2f} %",
        f"{figures.ups} / {figures.downs}",
    )


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _table(scenario: Scenario, results: Sequence[Figures], currency: str) -> list[str]:
    slo = scenario.slo
    heads = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    parts = [f"<table><thead><tr>{heads}</tr></thead><tbody>"]
    for each in results:
        cells = _row(each, currency)
        # Beyond its objective: p95 and p99 of both times.
        seconds = {7: each.ttft_seconds[0.95], 8: each.ttft_seconds[0.99], 10: each.tpot_seconds[0.95]}
        seconds[11] = each.tpot_seconds[0.99]
        marks = {
            index
            for index, value in seconds.items()
            if value is not None and value > (slo.ttft_seconds if index < 9 else slo.tpot_seconds)
        }
        shown = "".join(
            f'<td class="missed">{escape(cell)}</td>' if index in marks else f"<td>{escape(cell)}</td>"
            for index, cell in enumerate(cells)
        )
        parts.append(f"<tr>{shown}</tr>")
    return [*parts, "</tbody></table>"]


def _load(scenario: Scenario, edges: FloatArray, end: float) -> str:
    requests, tokens = rates(scenario, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    above = plot(
        Axes(end, 0.0, round_up(float(requests.max())), "requests/s"),
        [Line(np.minimum(middles, end), requests, INK, "requests per second")],
    )
    thousands = tokens / 1000.0
    below = plot(
        Axes(end, 0.0, round_up(float(thousands.max())), "1000 tokens/s"),
        [Line(np.minimum(middles, end), thousands, WARM, "prompt and output tokens per second")],
    )
    return f"{above}\n{below}"


def _section(
    scenario: Scenario, each: Figures, end: float, counts: Axes, decades: tuple[Decades, Decades]
) -> list[str]:
    timeline, series, slo = each.timeline, each.series, scenario.slo
    shown = timeline.at <= end  # drains end later
    paid, ready = timeline.paid[shown].astype(float), timeline.ready[shown].astype(float)
    at = np.append(timeline.at[shown], end)
    middles = np.minimum((series.edges[:-1] + series.edges[1:]) / 2, end)
    replicas = [
        Line(
            at,
            np.append(paid, paid[-1]),
            SOFT,
            "paid",
            stepped=True,
            filled=True,
        ),
        Line(at, np.append(ready, ready[-1]), INK, "ready", stepped=True),
    ]
    percent = 100.0 * series.attainment_ratio
    ttft = Axes(end, *decades[0], "TTFT, ms", 150, "log")
    tpot = Axes(end, *decades[1], "TPOT, ms", 150, "log")
    return [
        f"<section><h2>{escape(each.policy)}: {100 * each.attainment_ratio:.2f} % at "
        f"{each.average_replicas:.2f} replicas</h2>",
        plot(counts, replicas),
        _latency(ttft, middles, series.ttft_seconds, slo.ttft_seconds),
        _latency(tpot, middles, series.tpot_seconds, slo.tpot_seconds),
        plot(
            Axes(end, 0.0, 100.0, "% within SLO", 110),
            [Line(middles, percent, "#2b7a3d", "requests within TTFT and TPOT")],
        ),
        "</section>",
    ]


def _latency(axes: Axes, middles: FloatArray, seconds: Mapping[float, FloatArray], objective: float) -> str:
    """Draw percentiles in milliseconds, and the objective."""
    colours = {0.5: SOFT, 0.95: INK, 0.99: WARM}
    lines = [
        Line(middles, 1000.0 * values, colours[share], f"p{round(100 * share)}", dashed=share == 0.99)
        for share, values in seconds.items()
    ]
    return plot(axes, lines, [(1000.0 * objective, f"objective {1000 * objective:g} ms")])


def _decades(series: Sequence[Mapping[float, FloatArray]], objective: float) -> Decades:
    """Return the powers of ten, in milliseconds, between which all policies' latencies lie."""
    known = [values[~np.isnan(values)] for each in series for values in each.values()]
    seconds = np.maximum(np.concatenate([*known, [objective]]), 1e-4)
    low, high = 1000.0 * float(seconds.min()) * 0.999, 1000.0 * float(seconds.max()) * 1.001
    return 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
