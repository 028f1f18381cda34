"""The port `KubeApi` on `kubernetes.aio`: generic calls with dictionaries, never its model classes.

The library brings kubeconfig with exec plugins, TLS and the connection pool. Its own retries stay
off, because they would repeat what is not safe to repeat, and its refresh of in-cluster tokens is
replaced: it goes by wall clock once a minute and sends a trailing newline as it stands.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import incluster_config

from penstock import __version__
from penstock.kube.answers import CallLimits
from penstock.kube.api import (
    DEPLOYMENTS,
    STATEFUL_SETS,
    KubeError,
    Object,
    PatchType,
    Resource,
    Scale,
    Unprocessable,
)
from penstock.kube.calls import Answer, Call, Caller, OnRequest
from penstock.kube.credentials import Credentials, TokenFile
from penstock.kube.discovery import Discovery
from penstock.kube.listing import paged_list, whole_list

FIELD_MANAGER = "penstock"
# 64 calls at once is what the applier asks for; a call beyond that waits for a connection.
CONNECTIONS = 64
BUILT_IN = {(r.group, r.kind): r for r in (DEPLOYMENTS, STATEFUL_SETS)}
# Names come from users' objects; without this "../../secrets/x" would be another object's path.
PATH_SEGMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?")
Objects = list[Object]  # within the class, `list` is the port's method


class AioKubeApi:
    """`KubeApi` over HTTP. Build it with `connect`, end it with `close`."""

    def __init__(
        self,
        client: ApiClient,
        credentials: Credentials,
        *,
        limits: CallLimits | None = None,
        on_request: OnRequest | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._limits = limits or CallLimits()
        self._host = str(client.configuration.host).rstrip("/")
        self._caller = Caller(
            self._send,
            credentials,
            limits=self._limits,
            headers={"Accept": "application/json", "User-Agent": f"penstock/{__version__}"},
            on_request=on_request,
            rng=rng or random.Random(),  # noqa: S311 - jitter
        )
        self._discovery = Discovery(self._discover, BUILT_IN)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object."""
        return await self._make("get", resource, namespace, name)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = ""
    ) -> list[Object]:
        """Return all objects of a type."""
        ask = functools.partial(self._page, resource, namespace)
        return await whole_list(ask, page_size=self._limits.page_size, label_selector=label_selector)

    def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Objects]:
        """Yield all objects of a type page by page; after an expired token all of them come again."""
        return paged_list(
            functools.partial(self._page, resource, namespace), page_size=self._limits.page_size
        )

    async def glance(self, resource: Resource, namespace: str) -> None:
        """List at most one object of a type: whether that is permitted, at the least cost."""
        await self._page(resource, namespace, {"limit": "1"})

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create an object. Not repeated after a lost connection: it may exist by then."""
        return await self._make("create", resource, namespace, body=dict(body), repeatable=False)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Replace an object; the body's resourceVersion must be the present one.

        After a lost connection the repetition may answer `Conflict` although the first one was written.
        """
        return await self._make("update", resource, namespace, name, body=dict(body))

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: object,
        *,
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
    ) -> Object:
        """Patch an object or its subresource as field manager ``penstock``; no apply is forced."""
        is_operations = patch_type is PatchType.JSON
        # The library would silently send a JSON patch that is no list as a strategic merge patch.
        if is_operations != isinstance(body, list):
            raise TypeError(f"a body of type {type(body).__name__} is no {patch_type.value}")
        return await self._make(
            "patch",
            resource,
            namespace,
            name,
            subresource,
            body=body,
            content_type=patch_type.value,
            repeatable=not is_operations,  # "add" to a list twice adds two elements
        )

    async def apply(self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Apply an object of our own server-side, whoever else set its fields: it is ours.

        As the API conventions ask of controllers: a conflict could only be answered by forcing later.
        """
        return await self._make(
            "patch",
            resource,
            namespace,
            name,
            query={"force": "true"},
            body=dict(body),
            content_type=PatchType.APPLY.value,
        )

    async def validate(
        self, resource: Resource, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Object:
        """Return what a JSON Patch would make of an object, by a dry run: webhooks are asked, too."""
        return await self._make(
            "patch",
            resource,
            namespace,
            name,
            query={"dryRun": "All"},
            body=list(operations),
            content_type=PatchType.JSON.value,
        )

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object; what it owns is collected in the background. Raises `NotFound`."""
        await self._make("delete", resource, namespace, name, query={"propagationPolicy": "Background"})

    async def get_scale(self, resource: Resource, namespace: str, name: str) -> Scale:
        """Return the scale subresource."""
        return _scale(await self._make("get", resource, namespace, name, "scale"))

    async def patch_scale(
        self, resource: Resource, namespace: str, name: str, *, replicas: int, resource_version: str
    ) -> Scale:
        """Set the wanted replicas if the object is still at `resource_version`; else `Conflict`."""
        body = {"metadata": {"resourceVersion": resource_version}, "spec": {"replicas": replicas}}
        return _scale(await self.patch(resource, namespace, name, body, subresource="scale"))

    async def resource_of(self, group: str, kind: str) -> Resource:
        """Find the resource type of a kind; built-in workloads need no call. Cached for 10 min."""
        return await self._discovery.find(group, kind)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _page(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> Object:
        return await self._make("list", resource, namespace, query=query)

    async def _make(
        self,
        verb: str,
        resource: Resource,
        namespace: str = "",
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool = True,
    ) -> Object:
        for what, segment in (("namespace", namespace), ("name", name)):
            if segment and not PATH_SEGMENT.fullmatch(segment):
                raise Unprocessable(f"{segment!r} is not the {what} of an object")
        if verb not in ("list", "create") and not name:
            raise Unprocessable(f"the name of the {resource.kind} is empty")
        parameters = dict(query or {})
        if body is not None:
            parameters["fieldManager"] = FIELD_MANAGER
        url = self._host + resource.path(namespace, name, subresource)
        call = Call(
            verb=verb,
            resource="/".join(filter(None, (resource.plural, subresource))),
            url=f"{url}?{urlencode(parameters)}" if parameters else url,
            body=body,
            content_type=content_type,
            repeatable=repeatable,
        )
        return await self._caller.make(call)

    async def _discover(self, path: str) -> Object:
        return await self._caller.make(Call("get", "discovery", self._host + path))

    async def _send(self, call: Call, headers: Mapping[str, str]) -> Answer:
        # sock_connect, not connect: the latter also counts the wait for a free connection. The caller
        # holds the limit of the whole call.
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds)
        response = await self._client.call_api(
            call.method, call.url, dict(headers), body=call.body, _request_timeout=limits
        )
        return Answer(response.status, response.headers, await response.read())


class KubeconfigCredentials:
    """Credentials from kubeconfig files; after a 401 they are read, and exec plugins run, again."""

    def __init__(self, files: str, configuration: Configuration) -> None:
        self._files = files
        self._configuration = configuration
        self._renewing = asyncio.Lock()

    def authorization(self) -> str:
        """Return the header's value; empty with client certificates."""
        return str(self._configuration.api_key.get("BearerToken", ""))

    async def renew(self, rejected: str) -> None:
        """Load the files once for all calls that were rejected together."""
        async with self._renewing:
            if self.authorization() == rejected:
                self._configuration = await _kubeconfig(self._files)


async def connect(
    *, kubeconfig: str = "", on_request: OnRequest | None = None, limits: CallLimits | None = None
) -> AioKubeApi:
    """Connect to the API server; no request is made yet.

    The first of: `kubeconfig` (files separated by ``:``), ``$KUBECONFIG``, the pod's service account,
    ``~/.kube/config``. Raises `KubeError` when there is none or it cannot be used.
    """
    files = kubeconfig or os.environ.get("KUBECONFIG", "")
    credentials: Credentials
    if not files and os.environ.get(incluster_config.SERVICE_HOST_ENV_NAME):
        configuration = _in_cluster()
        credentials = TokenFile(incluster_config.SERVICE_TOKEN_FILENAME)
    else:
        files = files or kubernetes_config.KUBE_CONFIG_DEFAULT_LOCATION
        configuration = await _kubeconfig(files)
        credentials = KubeconfigCredentials(files, configuration)
    # aiohttp would look for a proxy and into netrc anew for each request, in two threads: a third of the
    # request's time; and an entry of the API server's host there would contradict our token.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_for(str(configuration.host))
    try:
        client = ApiClient(configuration)
    except OSError as error:  # ssl.SSLError is one
        raise KubeError(f"cannot use the API server's CA or the client certificate: {error}") from None
    return AioKubeApi(client, credentials, limits=limits, on_request=on_request)


def _proxy_for(address: str) -> str | None:
    """Return the proxy that HTTP(S)_PROXY and NO_PROXY ask for; None for a direct connection."""
    url = urlsplit(address)
    return None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)


def _in_cluster() -> Configuration:
    configuration = Configuration(connection_pool_maxsize=CONNECTIONS)
    try:
        kubernetes_config.load_incluster_config(configuration, try_refresh_token=False)
    except (kubernetes_config.ConfigException, OSError) as error:
        raise KubeError(f"cannot use the pod's service account: {error}") from None
    return configuration


async def _kubeconfig(files: str) -> Configuration:
    if not any(_is_file(path) for path in files.split(os.pathsep) if path):
        raise KubeError(f"no kubeconfig at {files}: give --kubeconfig, set KUBECONFIG, or run in a cluster")
    configuration = Configuration(connection_pool_maxsize=CONNECTIONS)
    try:
        await kubernetes_config.load_kube_config(
            config_file=files, client_configuration=configuration, persist_config=False
        )
    # The loader meets a file of another shape with whatever its dictionaries raise.
    except (
        kubernetes_config.ConfigException,
        yaml.YAMLError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise KubeError(f"cannot use the kubeconfig {files}: {error}") from None
    return configuration


def _is_file(path: str) -> bool:
    return Path(path).expanduser().is_file()


def _scale(body: Object) -> Scale:
    """Read a Scale. Go omits ``spec.replicas`` when it is 0: there absence is the encoding of zero."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    return Scale(
        replicas=int(spec.get("replicas", 0)),
        current=int(status.get("replicas", 0)),
        selector=str(status.get("selector", "")),
        resource_version=str(metadata["resourceVersion"]),
    )
