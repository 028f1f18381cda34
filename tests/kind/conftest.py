"""One cluster for the kind tests of a process; made by testbed/kind-up, removed at the end.

PENSTOCK_KEEP_CLUSTER=1 keeps it, and the next run that says so uses it again. Otherwise each run, and each
worker of a run, has a cluster of its own: tests that stop Prometheus and the operator would disturb others.
What a run that was killed left behind, the next one ends.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.kind_cluster import CACHE, ROOT, Cluster

KEEP = bool(os.environ.get("PENSTOCK_KEEP_CLUSTER"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
NAME = f"penstock-test{WORKER}" if KEEP else f"penstock-test-{os.getpid()}-{secrets.token_hex(2)}"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    path = f"{os.environ['PATH']}:{CACHE}"
    missing = [
        tool for tool in ("docker", "kind", "kubectl", "helm") if shutil.which(tool, path=path) is None
    ]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: `make test-kind` prepares the machine")
    if subprocess.run(
        ["docker", "image", "inspect", "penstock:dev"], capture_output=True, check=False
    ).returncode:
        pytest.skip("no Docker engine or no image penstock:dev: `make test-kind` prepares the machine")
    kubeconfig = Path(tmp_path_factory.mktemp("kind")) / "kubeconfig"
    found = Cluster(NAME, kubeconfig)
    _end_abandoned(found)
    try:
        found.run(str(ROOT / "testbed" / "kind-up"), NAME, seconds=400)
        found.prepare()
        yield found
    finally:
        if not KEEP:
            found.run(str(ROOT / "testbed" / "kind-down"), NAME, check=False)


def _end_abandoned(machine: Cluster) -> None:
    """End clusters of runs whose process is gone; each idle one takes a tenth of a core and 0.5 GiB."""
    for name in machine.run("kind", "get", "clusters", "-q").stdout.split():
        owner = re.fullmatch(r"penstock-test-(\d+)-[0-9a-f]{4}", name)
        if owner and not Path("/proc", owner[1]).exists():
            machine.run(str(ROOT / "testbed" / "kind-down"), name, check=False)
