"""Judges of canaries on simulated streams: false rollbacks, power, time, wrong promotions.

    python tests/bench/canary.py [--quick] [--cells TEXT] [--rates 5,20] [--seed N] [--markdown]
    python tests/bench/canary.py --loads [--quick] [--cells TEXT] [--seed N] [--markdown]
    python tests/bench/canary.py --plot docs/canary-evidence.svg

2,000 canaries in every cell (--quick: 200), the same counts for every judge, 40 minutes each. `tests/bench/
canary_streams.py` says what is simulated, `canary_peers.py` what the others do. Ours is the operator's own
code. --loads: canaries that go through their steps while latency depends on load (`canary_load_run.py`),
200 in every cell (--quick: 50), our judge alone. Returns 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.canary_judged import undecided_says_so
from bench.canary_load_report import LoadOutcome, load_goals, print_loaded, print_loaded_markdown
from bench.canary_load_run import LOAD_CELLS, Rule
from bench.canary_ours import evidence
from bench.canary_peers import NEVER, kayenta, threshold_judge
from bench.canary_plot import plot
from bench.canary_report import JUDGES, OURS, Outcome, goals, print_markdown, print_outcomes
from bench.canary_streams import RATES, Cell, Stream, cells, simulate
from bench.dataplane_report import console, print_figures
from penstock.queueing.domain import FloatArray

RUNS, QUICK_RUNS = 2_000, 200
LOAD_RUNS, QUICK_LOAD_RUNS = 200, 50


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The scrape of the rollback and of the promotion per run; NEVER: none."""

    rolled_back: FloatArray
    promoted: FloatArray


def verdicts(cell: Cell, stream: Stream) -> dict[str, Verdicts]:
    """Return what every judge does with every canary; the first verdict holds."""
    traces = evidence(stream)
    rollback, promotion = _first(traces.roll_back), _first(traces.promote)
    if cell.onset:  # several steps: still under test when it turns bad
        promotion = np.full_like(promotion, NEVER)
    end = np.full_like(rollback, NEVER - 1)
    found = {
        OURS: Verdicts(
            np.where(rollback <= promotion, rollback, NEVER), np.where(promotion < rollback, promotion, NEVER)
        )
    }
    for name, at in (
        ("Flagger 1", threshold_judge(stream, 1)),
        ("Flagger 5", threshold_judge(stream, 5)),
        ("Argo limit 0", threshold_judge(stream, 1)),
        ("Argo limit 3", threshold_judge(stream, 4)),
        ("Kayenta", kayenta(stream)),
    ):
        found[name] = Verdicts(at, np.where(at == NEVER, end, NEVER))
    return found


def _first(reached: FloatArray) -> FloatArray:
    return np.where(reached.any(axis=0), reached.argmax(axis=0), NEVER)


def outcomes(cell: Cell, runs: int, seed: int) -> list[Outcome]:
    """Return one outcome for every judge in a cell."""
    stream = simulate(cell, runs, seed)
    return [
        Outcome.of(cell, judge, each.rolled_back, each.promoted)
        for judge, each in verdicts(cell, stream).items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells asked for, print tables and goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} canaries a cell, not {RUNS:,}")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--rates", default=",".join(f"{rate:g}" for rate in RATES), help="requests/s, commas")
    parser.add_argument("--loads", action="store_true", help="arms at unequal load per replica")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="print the tables for docs/canary-judge.md")
    parser.add_argument("--plot", type=Path, help="only draw evidence over time into this file")
    asked = parser.parse_args(arguments)
    if asked.plot:
        plot(asked.plot, asked.seed)
        return 0
    if asked.loads:
        return _at_unequal_load(asked)
    rates = [float(rate) for rate in asked.rates.split(",")]
    chosen = [cell for cell in cells() if asked.cells in cell.name and cell.rate in rates]
    if not chosen:
        parser.error(f"no cell is called {asked.cells!r} at {asked.rates}: see LAWS in canary_streams.py")
    runs, began = QUICK_RUNS if asked.quick else RUNS, time.monotonic()
    found: list[Outcome] = []
    for cell in track(chosen, "Canaries", console=console, transient=True):
        found += outcomes(cell, runs, asked.seed)
    figures = goals(found, undecided_says_so(asked.seed))
    if asked.markdown:
        print_markdown(found, figures, runs, asked.seed)
    else:
        print_outcomes(found)
        print_figures(figures, "Goals")
        console.print(
            f"{len(JUDGES)} judges, {runs:,} canaries in each of {len(chosen)} cells, seed {asked.seed}, "
            f"{time.monotonic() - began:.0f} s"
        )
    return int(any(figure.missed for figure in figures))


def _at_unequal_load(asked: argparse.Namespace) -> int:
    runs, began = QUICK_LOAD_RUNS if asked.quick else LOAD_RUNS, time.monotonic()
    chosen = [(cell, rule) for cell in LOAD_CELLS if asked.cells in cell.name for rule in Rule]
    found = [
        LoadOutcome.of(cell, rule, runs, asked.seed)
        for cell, rule in track(chosen, "Canaries", console=console, transient=True)
    ]
    figures = load_goals(found)
    if asked.markdown:
        print_loaded_markdown(found, runs, asked.seed)
    else:
        print_loaded(found)
        print_figures(figures, "Goals")
        console.print(f"{runs:,} canaries in each cell, seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
