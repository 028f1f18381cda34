"""Where the API server is, who we are to it, and tokens that are rotated under a running operator."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.config import incluster_config

from penstock.kube import aio_client
from penstock.kube.aio_client import AioKubeApi, connect
from penstock.kube.answers import CallLimits
from penstock.kube.api import PODS, Forbidden, KubeError, Unavailable
from penstock.kube.credentials import TokenFile

Server = Any  # the fixture's ApiServer
QUICK = CallLimits(total_seconds=2.0, first_pause_seconds=0.002)


@pytest.fixture(autouse=True)
def no_cluster_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def swap(path: Path, text: str) -> None:
    """Replace a file at one go, as the kubelet does."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


async def test_a_rotated_token_is_sent_with_the_next_call(
    api: AioKubeApi, server: Server, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    served = AioKubeApi(api._client, TokenFile(str(token)), limits=QUICK)
    server.queue = [web.json_response({}) for _ in range(3)]
    await served.get(PODS, "prod", "p")
    await served.get(PODS, "prod", "p")
    swap(token, "second")
    await served.get(PODS, "prod", "p")
    assert [headers["Authorization"] for headers in server.headers] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^cannot read the token file \S+/token: No such file or directory$"),
        ("", r"^the token file \S+/token holds no token on a single line$"),
        ("one\ntwo", r"^the token file \S+/token holds no token on a single line$"),
        ("tökén", r"^cannot read the token file \S+/token: it is not a token$"),
    ],
)
async def test_a_token_file_that_cannot_be_used_is_named_without_its_content(
    api: AioKubeApi, server: Server, tmp_path: Path, content: str | None, message: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    served = AioKubeApi(api._client, TokenFile(str(token)), limits=QUICK)
    with pytest.raises(Unavailable, match=message):
        await served.get(PODS, "prod", "p")
    assert server.asked == []
    swap(token, "mended")
    server.queue = [web.json_response({})]
    await served.get(PODS, "prod", "p")
    assert server.headers[0]["Authorization"] == "Bearer mended"


async def test_in_a_cluster_the_service_account_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("from-the-kubelet")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", certifi.where())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    api = await connect()
    assert api._host == "https://[fd00::1]:443"
    assert api._caller._credentials.authorization() == "Bearer from-the-kubelet"
    await api.close()


async def test_a_pod_without_service_account_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(KubeError, match=r"^cannot use the pod's service account: .*does not exist\.$"):
        await connect()


async def test_kubeconfig_of_the_environment_comes_before_the_cluster(
    monkeypatch: pytest.MonkeyPatch, write_kubeconfig: Callable[..., str]
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBECONFIG", "/not/there" + os.pathsep + write_kubeconfig("http://elsewhere:1"))
    api = await connect()
    assert api._host == "http://elsewhere:1"
    await api.close()


async def test_without_any_configuration_it_says_what_to_do() -> None:
    with pytest.raises(
        KubeError, match=r"^no kubeconfig at /not/there: give --kubeconfig, set KUBECONFIG, or"
    ):
        await connect(kubeconfig="/not/there")


@pytest.mark.parametrize("content", ["", "[]", "just text", "{", "users: 1", '{"current-context": "x"}'])
async def test_a_broken_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken"
    path.write_text(content)
    with pytest.raises(KubeError, match=f"^cannot use the kubeconfig {path}: "):
        await connect(kubeconfig=str(path))


async def test_a_401_has_the_kubeconfig_read_again_once(
    server: Server, refusal: Any, write_kubeconfig: Callable[..., str]
) -> None:
    async def only_second(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer second":
            return web.json_response({})
        return refusal(401, "Unauthorized")

    server.respond = only_second
    api = await connect(kubeconfig=write_kubeconfig(server.url, token="first"), on_request=server.count)
    with pytest.raises(Forbidden, match=r"^Unauthorized$"):
        await api.get(PODS, "prod", "p")
    assert [code for _, _, code in server.counted] == ["401", "401"]
    write_kubeconfig(server.url, token="second")
    await api.get(PODS, "prod", "p")
    await api.get(PODS, "prod", "p")
    assert [code for _, _, code in server.counted[2:]] == ["401", "200", "200"]
    await api.close()


async def test_an_exec_plugin_runs_again_when_its_token_has_expired(
    server: Server, refusal: Any, write_kubeconfig: Callable[..., str], tmp_path: Path
) -> None:
    plugin, count = tmp_path / "plugin", tmp_path / "count"
    credential = json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "TOKEN"},
        }
    )
    plugin.write_text(
        f"#!/bin/sh\necho x >> {count}\necho '{credential}' | sed s/TOKEN/run-$(wc -l < {count})/\n"
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)

    async def only_second(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer run-2":
            return web.json_response({})
        return refusal(401, "Unauthorized")

    server.respond = only_second
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    api = await connect(kubeconfig=write_kubeconfig(server.url, exec=run))
    await api.get(PODS, "prod", "p")
    assert count.read_text().splitlines() == ["x", "x"]
    await api.close()


def issue(directory: Path, name: str, *extra: str) -> Path:
    """Make a key and a certificate, signed by ``ca`` unless it is that."""
    signer = () if name == "ca" else ("-CA", f"{directory}/ca.crt", "-CAkey", f"{directory}/ca.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    output = ["-nodes", "-days", "2", "-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.crt"]
    subprocess.run(
        [*command, *output, "-subj", f"/CN={name}", *signer, *extra],
        check=True,
        capture_output=True,
        timeout=20,
    )
    return directory / f"{name}.crt"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")
async def test_client_certificate_and_ca_of_the_kubeconfig_are_used(tmp_path: Path) -> None:
    ca = issue(tmp_path, "ca")
    served = issue(tmp_path, "server", "-addext", "subjectAltName=IP:127.0.0.1")
    issue(tmp_path, "operator")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.load_cert_chain(served, tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    names: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        names.append(request.transport.get_extra_info("peercert")["subject"])
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    try:
        url = str(server.make_url("")).rstrip("/")
        codes: list[str] = []
        trusted = _tls_kubeconfig(tmp_path, url, str(ca))
        api = await connect(kubeconfig=trusted, limits=QUICK)
        assert await api.get(PODS, "prod", "p") == {}
        assert names == [((("commonName", "operator"),),)]
        await api.close()
        stranger = await connect(
            kubeconfig=_tls_kubeconfig(tmp_path, url, certifi.where()),
            on_request=lambda _verb, _resource, code, _seconds: codes.append(code),
            limits=QUICK,
        )
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await stranger.get(PODS, "prod", "p")
        assert codes == ["connection"], "a certificate does not get better by trying again"
        await stranger.close()
    finally:
        await server.close()


def _tls_kubeconfig(directory: Path, url: str, ca: str) -> str:
    path = directory / "tls-kubeconfig"
    user = {"client-certificate": "operator.crt", "client-key": "operator.key"}
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "kubernetes.default"}, None),
    ],
)
def test_a_proxy_is_taken_from_the_environment_once(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert aio_client._proxy_for("https://kubernetes.default:443") == proxy
