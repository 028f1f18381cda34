"""The real Envoy asking the real xDS server over loopback."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
from aiohttp import web

from penstock.dataplane.envoy.backend import EnvoyDataPlane
from penstock.dataplane.envoy.binary import find_envoy
from penstock.dataplane.envoy.bootstrap import READY_PATH, bootstrap
from penstock.dataplane.envoy.server import serve
from penstock.sandbox.child_process import free_port

GROUP, TOKEN = "prod", "let-me-in"


@dataclass
class PlaneServer:
    """An operator's xDS server that can be killed and started again on the same port."""

    port: int = field(default_factory=free_port)
    plane: EnvoyDataPlane | None = None
    _runner: web.AppRunner | None = None

    async def start(self, plane: EnvoyDataPlane | None = None) -> EnvoyDataPlane:
        self.plane = plane or EnvoyDataPlane(lambda _: TOKEN, listen_address="127.0.0.1")
        self._runner = await serve(self.plane.app(), "127.0.0.1", self.port)
        return self.plane

    async def kill(self) -> None:
        if self._runner is not None:
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()  # held questions, as a kill leaves them
            await self._runner.cleanup()
            self._runner = None
        if self.plane is not None:
            await self.plane.close()


@dataclass
class EnvoyProcess:
    """One Envoy; `address` is where its services' ports and its statistics are reached."""

    directory: Path
    xds_port: int
    node: str = "gateway-0"
    token: str = TOKEN
    group: str = GROUP
    address: str = "127.0.0.1"
    agent_port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    stats_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready_seconds: float = 30) -> None:
        """Start and wait until it has its first configuration, or 15 s without any have passed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        static = bootstrap(
            group=self.group,
            token=self.token,
            xds_host="127.0.0.1",
            xds_port=self.xds_port,
            agent_port=self.agent_port,
            node_id=self.node,
            admin_port=self.admin_port,
            stats_port=self.stats_port,
            listen_address=self.address,
        )
        path = self.directory / f"{self.node}.json"
        path.write_bytes(orjson.dumps(static))
        with (self.directory / f"{self.node}.log").open("wb") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(str(find_envoy()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"),
                *("--log-level", os.environ.get("ENVOY_LOG_LEVEL", "warning")),
                stdout=output,
                stderr=output,
            )
        async with asyncio.timeout(ready_seconds):
            while not await self.is_ready():
                if self.process.returncode is not None:
                    raise RuntimeError(f"Envoy ended: {self.log()[-4000:]}")
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def log(self) -> str:
        return (self.directory / f"{self.node}.log").read_text()

    async def admin(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            return await reply.text()

    async def is_ready(self) -> bool:
        try:
            url = f"http://{self.address}:{self.stats_port}{READY_PATH}"
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def proxies(directory: Path, server: PlaneServer, count: int = 1) -> AsyncIterator[list[EnvoyProcess]]:
    """Run `count` Envoys that ask `server`, while in the block."""
    started = [EnvoyProcess(directory, server.port, node=f"gateway-{index}") for index in range(count)]
    try:
        await asyncio.gather(*(each.start() for each in started))
        yield started
    finally:
        for each in started:
            await each.stop()
