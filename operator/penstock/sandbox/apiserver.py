"""A real etcd and kube-apiserver on the loopback interface, for tests and the demo.

No kubelet, no controllers: objects are stored, validated and watched, nothing acts on them. RBAC is in
force: `token` is an administrator's, `token_for` makes those of service accounts. Everything lives in
a temporary directory and ends with this process.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from penstock.sandbox.child_process import ChildProcess, free_port
from penstock.sandbox.loopback import open_loopback

READY_WITHIN_SECONDS = 60.0
START_ATTEMPTS = 3  # another process may take a free port between looking and binding
CALL_SECONDS = 30.0
# Order of the P-256 curve; a private key is any number below it.
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class ApiServerUnavailableError(Exception):
    """The binaries are missing or do not start; the message says what to do."""


def find_binary(name: str) -> Path:
    """Return a binary from the PATH, ``$KUBEBUILDER_ASSETS`` or the testbed's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kind-from-source" / "bin"
    places = [os.environ.get("PATH", ""), os.environ.get("KUBEBUILDER_ASSETS", ""), str(cache)]
    found = shutil.which(name, path=os.pathsep.join(place for place in places if place))
    if found is None:
        raise ApiServerUnavailableError(
            f"{name} is neither on the PATH nor in $KUBEBUILDER_ASSETS nor in {cache}: run testbed/binaries"
        )
    return Path(found)


@dataclass(slots=True)
class ApiServer:
    """A running kube-apiserver; use it as a context manager. Blocking: start it outside the event loop."""

    url: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    home: Path = Path()
    _children: list[ChildProcess] = field(default_factory=list, init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _changing: threading.Lock = field(default_factory=threading.Lock, init=False)  # start or stop, not both

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ca_file(self) -> Path:
        """Certificate to verify the server with."""
        return self.home / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start both, unless they run, and return when the API server is ready: about 3 s on 2 cores.

        Raises `ApiServerUnavailableError`, also at once when another thread calls `stop` meanwhile.
        """
        with self._changing:
            if not self._children:
                self._start()

    def stop(self) -> None:
        """End both for good and remove their data; a `start` that still waits in another thread gives up."""
        self._stopped.set()
        with self._changing:
            self._clear()

    def _start(self) -> None:
        etcd, apiserver = find_binary("etcd"), find_binary("kube-apiserver")
        for attempt in range(START_ATTEMPTS):
            self.home = Path(tempfile.mkdtemp(prefix="penstock-apiserver-"))
            try:
                self._spawn(etcd, apiserver)
                self._wait_until_ready()
            except ApiServerUnavailableError as error:
                self._clear()
                if "address already in use" not in str(error) or attempt == START_ATTEMPTS - 1:
                    raise
            except BaseException:
                self._clear()
                raise
            else:
                return

    def _clear(self) -> None:
        while self._children:
            self._children.pop().stop()
        if self.home != Path():
            shutil.rmtree(self.home, ignore_errors=True)
            self.home = Path()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        """Send a request as the administrator, or with another token; returns status code and answer."""
        request = urllib.request.Request(  # noqa: S310 - our own https URL
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {token or self.token}",
                "Content-Type": content_type,
                "Accept": accept,
            },
        )
        try:
            with open_loopback(request, timeout_seconds=CALL_SECONDS, tls=self.tls()) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _parsed(error.read())

    def apply(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Apply an object server-side; raises `RuntimeError` with the server's words when it is refused."""
        status, answer = self.request(
            "PATCH",
            f"{path}?fieldManager=test&force=true",
            body,
            content_type="application/apply-patch+yaml",
        )
        if status not in (200, 201):
            raise RuntimeError(f"{status}: {answer.get('message', answer)}")
        return answer

    def define(self, definition: Mapping[str, Any]) -> None:
        """Apply a CustomResourceDefinition and wait until its resources are served."""
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
        self.apply(path, definition)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            conditions = self.request("GET", path)[1].get("status", {}).get("conditions") or []
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
            time.sleep(0.05)
        raise ApiServerUnavailableError(f"{definition['metadata']['name']} was not established: {conditions}")

    def token_for(self, namespace: str, service_account: str) -> str:
        """Return a token of a service account, which is created where it does not exist."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.request("POST", path, {"metadata": {"name": service_account}})
        status, answer = self.request("POST", f"{path}/{service_account}/token", {"spec": {}})
        if status != 201:
            raise RuntimeError(f"{status}: {answer.get('message', answer)}")
        token: str = answer["status"]["token"]
        return token

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts this server."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def kubeconfig(self, path: Path, *, token: str = "") -> Path:
        """Write a kubeconfig of the administrator, or of another token, and return its path."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        context = {"cluster": "test", "user": "test", "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": context}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def _spawn(self, etcd: Path, apiserver: Path) -> None:
        home = self.home
        client, peer, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        key, tokens = home / "service-accounts.key", home / "tokens.csv"
        for secret, content in ((key, _signing_key()), (tokens, f"{self.token},admin,1,system:masters\n")):
            secret.touch(mode=0o600)
            secret.write_text(content)
        commands = {
            "etcd": [
                str(etcd),
                f"--data-dir={home / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",  # the data is thrown away
                "--log-level=warn",
            ],
            "kube-apiserver": [
                str(apiserver),
                f"--etcd-servers=http://127.0.0.1:{client}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={home / 'certificates'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.96.0.0/24",
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                # Its controller would have to create an account in every namespace.
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged=true",
            ],
        }
        for name, command in commands.items():
            self._children.append(ChildProcess(command, home / f"{name}.log"))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while time.monotonic() < deadline:
            for child in self._children:
                if not child.running:
                    raise ApiServerUnavailableError(f"{child.log.stem} ended: {child.last_words()}")
            try:
                if self.ca_file.exists() and self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            if self._stopped.wait(0.1):
                raise ApiServerUnavailableError("stopped before it was ready")
        words = self._children[-1].last_words()
        raise ApiServerUnavailableError(f"not ready within {READY_WITHIN_SECONDS:g} s: {words}")


def _signing_key() -> str:
    """Return a fresh P-256 private key (SEC 1, RFC 5915) as PEM; the public half is derived by its reader."""
    number = secrets.randbelow(_P256_ORDER - 1) + 1
    curve = bytes.fromhex("a00a06082a8648ce3d030107")
    der = bytes.fromhex("30310201010420") + number.to_bytes(32, "big") + curve
    text = base64.b64encode(der).decode()
    label = "EC PRIVATE" + " KEY"
    return f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {"message": answer.decode(errors="replace")}
    return parsed if isinstance(parsed, dict) else {"value": parsed}
