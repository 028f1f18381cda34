"""A gateway: the real Envoy as a child process, configured by the operator as one in a cluster is.

Only the agent is missing that stands in for the operator beside a gateway pod: while the operator is away,
this gateway keeps the endpoints and limits it has.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

from penstock.dataplane.envoy.binary import find_envoy
from penstock.dataplane.envoy.bootstrap import ARGUMENTS, bootstrap
from penstock.dataplane.envoy.ports import FIRST_PORT, LAST_PORT
from penstock.dataplane.envoy.tokens import group_token
from penstock.sandbox.child_process import ChildProcess, free_port

GROUP = "penstock"  # what `penstock run --gateways=external` calls its only group
SERVICES = 2  # ports that must be free, from FIRST_PORT on
CLAIM_PORT = LAST_PORT  # the last one that a service would get
ASK_SECONDS = 0.25


class NoAddressError(Exception):
    """The ports that services get are taken on every address of loopback that was tried."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An address of loopback that no other demo of this machine takes until `hold` is closed."""

    address: str
    hold: socket.socket


def claim_address(services: int = SERVICES) -> Claim:
    """Claim an address of loopback where the services' ports are free: 127.0.0.1, else the next.

    The operator gives out ports from a fixed one on, so a second demo on this machine takes 127.0.0.2.
    """
    for last in range(1, 20):
        address = f"127.0.0.{last}"
        # The services' ports open some 35 s later, and Envoy shares a port without a word. This one is
        # ours at once: bound without options it is nobody else's, and none connects where none listens.
        hold = socket.socket()
        try:
            hold.bind((address, CLAIM_PORT))
        except OSError:
            hold.close()
            continue
        if all(_is_free(address, FIRST_PORT + each) for each in range(services)):
            return Claim(address, hold)
        hold.close()
    raise NoAddressError(
        f"port {FIRST_PORT} or {CLAIM_PORT} is taken: end what listens there (ss -ltnp) or other demos"
    )


@dataclass(slots=True)
class GatewayProcess:
    """One Envoy; it ends with this process, however that ends. Raises `EnvoyUnavailableError` at once."""

    home: Path
    binary: Path = field(default_factory=find_envoy)
    xds_port: int = field(default_factory=free_port)
    _claim: Claim = field(default_factory=claim_address, init=False, repr=False)
    _key: bytes = field(default_factory=lambda: secrets.token_hex(16).encode(), init=False, repr=False)
    _child: ChildProcess | None = field(default=None, init=False)

    @property
    def operator_arguments(self) -> tuple[str, ...]:
        """Return what `penstock run` needs to serve this gateway; writes the key file."""
        key_file = self.home / "gateway-key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(self._key)
        return (
            "--gateways=external",
            f"--xds-listen=127.0.0.1:{self.xds_port}",
            f"--gateway-key-file={key_file}",
            "--gateway-endpoint-host=127.0.0.1",  # the sandbox's engines; their pod addresses are made up
        )

    @property
    def address(self) -> str:
        """Where its services' ports are; claimed until `stop`."""
        return self._claim.address

    @property
    def url(self) -> str:
        """Where clients reach the first service by name."""
        return f"http://{self.address}:{FIRST_PORT}"

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._child is not None and self._child.running

    @property
    def last_words(self) -> str:
        """The end of what it logged."""
        return self._child.last_words() if self._child else "it was never started"

    def start(self) -> None:
        """Start it; its services' ports open when the operator has sent them."""
        static = bootstrap(
            group=GROUP,
            token=group_token(self._key, GROUP),
            node_id="gateway-0",
            xds_host="127.0.0.1",
            xds_port=self.xds_port,
            agent_port=free_port(),  # nobody listens there
            admin_port=free_port(),
            stats_port=free_port(),
            listen_address=self.address,
        )
        config = self.home / "gateway.json"
        config.touch(mode=0o600)  # the token is in it
        config.write_bytes(orjson.dumps(static))
        log = self.home / "logs" / "gateway.log"
        self._child = ChildProcess((str(self.binary), "-c", str(config), *ARGUMENTS), log)

    async def until_served(self, model: str) -> None:
        """Wait until a model is reached through the gateway; bound it in time."""
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await self._serves(session, model):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(ASK_SECONDS)

    def stop(self) -> None:
        """End it, and give its address up."""
        if self._child is not None:
            self._child.stop()
        self._claim.hold.close()

    async def _serves(self, session: aiohttp.ClientSession, model: str) -> bool:
        try:
            async with session.get(f"{self.url}/v1/models") as response:
                listed = orjson.loads(await response.read())["data"] if response.status == 200 else ()
                return any(each["id"] == model for each in listed)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError):
            return False


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
