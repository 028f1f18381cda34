"""The sandbox's real kube-apiserver: least privilege can be tried on it, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.sandbox.apiserver import ApiServer, ApiServerUnavailableError, find_binary

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.mark.api
def test_a_service_account_may_do_what_its_role_says(apiserver: ApiServer) -> None:
    token = apiserver.token_for("default", "reader")
    status, answer = apiserver.request("GET", DEPLOYMENTS, token=token)
    assert status == 403
    assert answer["message"] == (
        'deployments.apps is forbidden: User "system:serviceaccount:default:reader" cannot list resource '
        '"deployments" in API group "apps" in the namespace "default"'
    )
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    named = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "reader"}}
    role = named | {
        "kind": "Role",
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}],
    }
    binding = named | {
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    }
    apiserver.apply(f"{rbac}/roles/reader", role)
    apiserver.apply(f"{rbac}/rolebindings/reader", binding)
    deadline = time.monotonic() + 10  # the authorizer learns of it by a watch
    while apiserver.request("GET", DEPLOYMENTS, token=token)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert apiserver.request("POST", DEPLOYMENTS, {}, token=token)[0] == 403


@pytest.mark.api
def test_nobody_gets_in_without_a_token(apiserver: ApiServer) -> None:
    status, answer = apiserver.request("GET", DEPLOYMENTS, token="guessed")
    assert (status, answer["reason"]) == (401, "Unauthorized")


@pytest.mark.api
def test_secrets_of_the_server_are_its_owners_only(apiserver: ApiServer) -> None:
    for name in ("tokens.csv", "service-accounts.key"):
        assert (apiserver.home / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.api
@pytest.mark.slow
def test_a_killed_parent_takes_its_servers_along(apiserver: ApiServer) -> None:
    program = (
        "import time\n"
        "from penstock.sandbox.apiserver import ApiServer\n"
        "server = ApiServer()\n"
        "server.start()\n"
        "print(server.home, *[child.pid for child in server._children], flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        home, *pids = parent.stdout.readline().split()
        assert len(pids) == 2
        parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(_lives(int(pid)) for pid in pids):
            assert time.monotonic() < deadline, "the servers outlived their parent"
            time.sleep(0.1)
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    for left in sorted(Path(home).rglob("*"), reverse=True):
        left.rmdir() if left.is_dir() else left.unlink()
    Path(home).rmdir()


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_missing_binary_says_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ApiServerUnavailableError) as missing:
        find_binary("kube-apiserver")
    assert str(missing.value) == (
        "kube-apiserver is neither on the PATH nor in $KUBEBUILDER_ASSETS nor in "
        f"{tmp_path}/kind-from-source/bin: run testbed/binaries"
    )


def test_a_binary_of_the_assets_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "etcd"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert find_binary("etcd") == binary


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text("#!/bin/sh\necho the disk is full\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    server = ApiServer()
    with pytest.raises(ApiServerUnavailableError, match=r"^(etcd|kube-apiserver) ended: the disk is full$"):
        server.start()
    assert server.home == Path(), "nothing is left behind"
