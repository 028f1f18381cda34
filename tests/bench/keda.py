"""A real KEDA with its HPA and Penstock in turn: same kind cluster, engines, load, start-up and Prometheus.

    python tests/bench/keda.py                     three runs each, 35 minutes
    python tests/bench/keda.py --runs 1            one run each, 12 minutes
    python tests/bench/keda.py --concurrency 3     another threshold for KEDA's second trigger
    python tests/bench/keda.py --plot docs/keda.svg    only draws the runs that are stored
    python tests/bench/keda.py --keep              leaves the cluster: testbed/kind-down bench-keda

Makes the cluster bench-keda and deletes it at the end. Prints each run, then means and ranges side by side;
keeps every run with each change of its Deployment in build/keda/runs.jsonl. Exit status: 0 measured, 2 a run
could not be made, 4 the machine was the bottleneck in one, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.markup import escape

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.dataplane_report import console
from bench.keda_plot import plot, stored_runs
from bench.keda_report import Run, print_runs, print_summary
from bench.keda_run import run
from bench.keda_systems import KEDA, PENSTOCK, BenchError, Trial
from fakes.kind_cluster import ROOT, Cluster

NAME = "bench-keda"
SYNC_SECONDS = 15  # an HPA decides this often, and by default so does Penstock
NOT_TRUSTED, NOT_MADE, INTERRUPTED = 4, 2, 130


@contextmanager
def installed(manifest: Path, *, end: Callable[[Cluster], None]) -> Iterator[Cluster]:
    """A cluster with Prometheus, KEDA and Penstock in it; `end` is called whatever happens."""
    images = sorted(
        {line.split()[-1] for line in manifest.read_text().splitlines() if line.strip().startswith("image: ")}
    )
    with tempfile.TemporaryDirectory() as home:
        cluster = Cluster(NAME, Path(home) / "kubeconfig")
        try:
            tell(f"a kind cluster with {', '.join(images)}")
            ours = ("penstock:dev", "penstock-gateway:dev", "penstock-prometheus:dev")
            cluster.run(str(ROOT / "testbed/kind-up"), NAME, *ours, *images, seconds=500)
            cluster.prepare(f"tickSeconds={SYNC_SECONDS}")
            install_keda(cluster, manifest)
            yield cluster
        finally:
            end(cluster)


def install_keda(cluster: Cluster, manifest: Path) -> None:
    """Apply KEDA's manifest, its APIService last.

    The API server keeps the connection of its first look at an aggregated API. Before kube-proxy knows the
    Service that look can leave the node, and where a proxy answers for everybody it gets 404 from then on.
    """
    objects = [each for each in yaml.safe_load_all(manifest.read_text()) if each]
    served = [each for each in objects if each["kind"] == "APIService"]
    others = [each for each in objects if each["kind"] != "APIService"]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(others))
    for what in ("deploy/keda-operator", "deploy/keda-metrics-apiserver"):
        cluster.available(what, "keda", seconds=180)
    cluster.apply(*served)
    for each in served:
        cluster.available(f"apiservice/{each['metadata']['name']}", "keda")


def removed(cluster: Cluster) -> None:
    """Delete the cluster."""
    tell("deleting the cluster")
    cluster.run(str(ROOT / "testbed/kind-down"), NAME, check=False)


def kept(_: Cluster) -> None:
    """Leave the cluster as it is."""
    tell(f"the cluster is kept: kind export kubeconfig --name {NAME}, and testbed/kind-down {NAME}")


def tell(text: str) -> None:
    """Print a line of progress."""
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", highlight=False)


def measure(cluster: Cluster, trial: Trial, runs: int, found: list[Run]) -> None:
    """Make the runs in turn, KEDA first; those that were made are in `found` whatever happens."""
    for number in range(1, runs + 1):
        for system in (KEDA, PENSTOCK):
            head = f"run {number} of {runs}, {system.name}"

            def told(text: str, head: str = head) -> None:
                tell(f"{head}: {text}")

            found.append(run(cluster, trial, system=system, number=number, tell=told))
            print_runs(console, found[-1:])


def store(found: list[Run], trial: Trial, directory: Path) -> None:
    """Write one line of JSON a run."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(each) | {"trial": asdict(trial)}) for each in found)
    (directory / "runs.jsonl").write_text("".join(f"{line}\n" for line in lines))


def draw(stored: Path, picture: Path) -> int:
    """Print and draw the runs that are stored."""
    try:
        runs, trial = stored_runs(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        console.print(f"[red]No runs to draw:[/] {error!r}; python tests/bench/keda.py makes {stored}")
        return NOT_MADE
    print_runs(console, runs)
    print_summary(console, runs, PENSTOCK.name, KEDA.name)
    plot(runs, trial, picture)
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def asked(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=_whole, default=3, help="of each system, in turn (default 3)")
    usual = Trial()
    parser.add_argument("--queue", type=_positive, default=usual.queue, help="KEDA: waiting a replica")
    parser.add_argument(
        "--concurrency", type=_positive, default=usual.concurrency, help="KEDA: running and waiting a replica"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/keda", help="directory for runs.jsonl")
    parser.add_argument("--keep", action="store_true", help="leave the cluster for a look")
    parser.add_argument("--plot", type=Path, help="only draw the stored runs into this file")
    return parser.parse_args(arguments)


def keda_manifest() -> Path:
    """Return KEDA's manifest, its images pulled or built. Raises BenchError."""
    made = subprocess.run([ROOT / "testbed/keda-image"], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise BenchError("KEDA is not there: see above")
    return Path(made.stdout.strip())


def main(arguments: list[str] | None = None) -> int:
    """Make the runs, print and keep what was measured."""
    options = asked(arguments)
    if options.plot:
        return draw(options.out / "runs.jsonl", options.plot)
    trial = Trial(queue=options.queue, concurrency=options.concurrency)
    found: list[Run] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster goes then, too
    try:
        with installed(keda_manifest(), end=kept if options.keep else removed) as cluster:
            measure(cluster, trial, options.runs, found)
    except (BenchError, AssertionError, subprocess.TimeoutExpired) as error:
        console.print(f"[red]Not measured:[/] {escape(str(error))}")
        return NOT_MADE
    finally:
        if found:
            store(found, trial, options.out)
            print_runs(console, found)
            print_summary(console, found, PENSTOCK.name, KEDA.name)
    return NOT_TRUSTED if any(each.void for each in found) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
