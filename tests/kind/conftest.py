"""One cluster for the kind tests of a process; made by testbed/kind-up, removed at the end.

PENSTOCK_KEEP_CLUSTER=1 keeps it, and the next run that says so uses it again. Otherwise each run, and each
worker of a run, has a cluster of its own: tests that stop Prometheus and the operator would disturb others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.kind_cluster import CACHE, ROOT, Cluster

KEEP = bool(os.environ.get("PENSTOCK_KEEP_CLUSTER"))
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
NAME = f"penstock-test{WORKER}" if KEEP else f"penstock-test-{secrets.token_hex(2)}"


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
    found.run(str(ROOT / "testbed" / "kind-up"), NAME, seconds=400)
    try:
        found.prepare()
        yield found
    finally:
        if not KEEP:
            found.run(str(ROOT / "testbed" / "kind-down"), NAME, check=False)
