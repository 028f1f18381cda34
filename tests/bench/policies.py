"""Ours and the peers' policies on the same load: attainment, replica-hours, what each part of ours is worth.

    python tests/bench/policies.py [SECTION ..] [--quick] [--start-ups 120] [--peaks 16] [--days] [--fresh]

Sections: a (published llm-d profile), b (request traces), c (ablations), e (adversity), f (bursts). Results
are kept in DIR (build/policies) as results.jsonl and results.csv; what is there is not run again, so a long
sweep may be stopped and taken up. Returns 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import (
    policies_ablations,
    policies_adversity,
    policies_bursts,
    policies_llmd,
    policies_matched,
    policies_peaks,
)
from bench.dataplane_report import Figure, console, print_figures
from bench.policies_run import Forget, Store
from bench.policies_tables import keep_tables
from bench.policies_traces import START_UPS

HERE = Path(__file__).parents[2]
SECTIONS = ("a", "b", "c", "e", "f")


def main() -> int:
    """Run the sections; return 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="few policies, short traces")
    parser.add_argument("--days", action="store_true", help="whole days besides two hours around their peak")
    parser.add_argument("--start-ups", type=float, nargs="+", default=START_UPS, metavar="SECONDS")
    parser.add_argument(
        "--peaks", type=int, nargs="+", default=(), metavar="N", help="larger pools, as 16 48"
    )
    parser.add_argument("--traces", type=Path, default=HERE.parent / "shared" / "traces")
    parser.add_argument("--out", type=Path, default=HERE / "build" / "policies")
    parser.add_argument("--fresh", action="store_true", help="forget stored results")
    parser.add_argument("--ours", action="store_true", help="forget stored results of ours")
    options = parser.parse_args()
    chosen = options.sections or list(SECTIONS)
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    forget = Forget.ALL if options.fresh else Forget.OURS if options.ours else Forget.NOTHING
    store = Store.at(options.out, forget)
    keep_tables(options.out / "tables")
    figures: list[Figure] = []
    if "a" in chosen:
        figures += policies_llmd.measure(store, quick=options.quick)
    if "b" in chosen:
        of_traces = policies_matched.measure(
            store, options.traces, quick=options.quick, start_ups=options.start_ups
        )
        if options.peaks or options.days:
            of_traces += policies_peaks.measure(store, options.traces, options.peaks, days=options.days)
        print_figures(of_traces, "(b) request traces")
        figures += of_traces
    if "c" in chosen:
        policies_ablations.measure(store, options.traces, quick=options.quick)
    if "e" in chosen:
        under_adversity = policies_adversity.measure(store, quick=options.quick)
        print_figures(under_adversity, "(e) adversity")
        figures += under_adversity
    if "f" in chosen:
        of_bursts = policies_bursts.measure(store, options.traces, quick=options.quick)
        print_figures(of_bursts, "(f) bursts: admission and fallback")
        figures += of_bursts
    console.print(f"all results: {store.write_csv()}")
    judged = [each for each in figures if each.goal is not None]
    missed = sum(each.missed for each in judged)
    if missed:
        console.print(f"{missed} of {len(judged)} goals MISSED")
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
