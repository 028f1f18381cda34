"""The real Envoy with a snapshot in files: what our resources do, without a server of ours beside it.

The resources are the ones that go over REST; only their sources are replaced by paths. A change is written
beside the file and moved over it, which Envoy watches.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from penstock.dataplane.envoy import names
from penstock.dataplane.envoy.binary import find_envoy
from penstock.dataplane.envoy.bootstrap import POLLED_STATS_PATH, READY_PATH, bootstrap
from penstock.dataplane.envoy.snapshot import ProxyShare, Snapshot, render
from penstock.model.spec import ServiceKey
from penstock.model.traffic import RouteState
from penstock.sandbox.child_process import free_port


def from_files(resource: Any, directory: Path) -> Any:
    """Return a resource whose REST sources are replaced by files of `directory`."""
    if isinstance(resource, list):
        return [from_files(each, directory) for each in resource]
    if not isinstance(resource, dict):
        return resource
    copied = {key: from_files(value, directory) for key, value in resource.items()}
    for source, kind, name in (
        ("eds_config", names.EDS, resource.get("service_name")),
        ("config_source", names.RDS, resource.get("route_config_name")),
        ("sds_config", names.SDS, resource.get("name")),
        ("rtds_config", names.RTDS, resource.get("name")),
        ("cds_config", names.CDS, ""),
        ("lds_config", names.LDS, ""),
    ):
        if source in copied:
            assert name is not None, f"a {source} without a name beside it"
            path = _file(directory, kind, name)
            copied[source] = {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
    return copied


def write_snapshot(snapshot: Snapshot, directory: Path) -> None:
    """Write what changed: endpoints and runtime before clusters, clusters before routes."""
    for kind in (names.EDS, names.RTDS, names.SDS, names.RDS):
        for name, resource in snapshot.resources[kind].items():
            _write(_file(directory, kind, name), [from_files(resource, directory)])
    for kind in (names.CDS, names.LDS):
        _write(_file(directory, kind, ""), from_files(list(snapshot.resources[kind].values()), directory))


def _file(directory: Path, kind: str, name: str) -> Path:
    return directory / f"{kind.rpartition('.')[2]}-{quote(name, safe='')}.json"


def _write(path: Path, resources: Sequence[Any]) -> None:
    content = orjson.dumps({"resources": resources}, option=orjson.OPT_SORT_KEYS)
    if path.exists() and path.read_bytes() == content:
        return
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.rename(path)


@dataclass
class EnvoyOnFiles:
    """One Envoy process; `apply` gives it plans."""

    directory: Path
    workers: int = 1
    memory_limit_bytes: int | None = None  # what it is told; nothing holds the process to it
    admin_port: int = field(default_factory=free_port)
    stats_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self, states: Sequence[RouteState], shares: Mapping[ServiceKey, ProxyShare]) -> None:
        """Start with these plans and wait until their listeners accept."""
        self.apply(states, shares)
        static = bootstrap(
            group="files",
            token="unused",
            xds_host="127.0.0.1",
            xds_port=1,
            agent_port=1,
            node_id="envoy-on-files",
            admin_port=self.admin_port,
            stats_port=self.stats_port,
            memory_limit_bytes=self.memory_limit_bytes,
            listen_address="127.0.0.1",
        )
        path = self.directory / "bootstrap.json"
        path.write_bytes(orjson.dumps(from_files(static, self.directory)))
        log = self.directory / "envoy.log"
        with log.open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(str(find_envoy()), "-c", str(path), "--concurrency", str(self.workers)),
                *("--disable-hot-restart", "--log-level", os.environ.get("ENVOY_LOG_LEVEL", "warning")),
                stdout=output,
                stderr=output,
            )
        async with asyncio.timeout(20):
            while not await self._ready():
                if self.process.returncode is not None:
                    raise RuntimeError(f"Envoy ended: {log.read_text()[-4000:]}")
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def apply(self, states: Sequence[RouteState], shares: Mapping[ServiceKey, ProxyShare]) -> None:
        """Put the resources of these plans into the files."""
        snapshot = render(
            states, shares, listen_address="127.0.0.1", tls_directory=str(self.directory / "tls")
        )
        write_snapshot(snapshot, self.directory)

    async def stats(self, path: str = POLLED_STATS_PATH) -> dict[str, int]:
        """Return what the operator polls."""
        async with aiohttp.ClientSession() as session, session.get(self._at(path)) as reply:
            assert reply.status == 200, await reply.text()
            lines = (await reply.text()).splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines if line)}

    async def admin(self, path: str) -> str:
        """Return a page of the admin interface."""
        address = f"http://127.0.0.1:{self.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(address) as reply:
            return await reply.text()

    def log(self) -> str:
        """Return what the process wrote."""
        return (self.directory / "envoy.log").read_text()

    def _at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.stats_port}{path}"

    async def _ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self._at(READY_PATH)) as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False
