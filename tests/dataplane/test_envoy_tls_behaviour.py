"""TLS by files that are mounted: the real Envoy serves them and takes up renewed ones."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from fakes.envoy_gateway import CHAT, gateway, plan, share
from fakes.streaming_upstream import StreamingUpstream, at_once
from penstock.dataplane.envoy.certificates import secret_directory

pytestmark = pytest.mark.timed


def _issue(directory: Path, name: str) -> None:
    """Write a Secret's files as a kubelet does: a new directory, then one link moved to it."""
    fresh = directory / f"..{name}"
    fresh.mkdir(parents=True)
    command = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *(
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(fresh / "tls.key"),
            "-out",
            str(fresh / "tls.crt"),
        ),
    )
    subprocess.run(command, capture_output=True, check=True, timeout=30)
    link = directory / "..new"
    link.symlink_to(fresh.name)
    link.rename(directory / "..data")
    for file in ("tls.crt", "tls.key"):
        if not (directory / file).is_symlink():
            (directory / file).symlink_to(f"..data/{file}")


async def _served_name(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return "renewed" if b"renewed" in certificate else "first" if b"first" in certificate else "other"


async def test_a_mounted_secret_is_served_and_a_renewed_one_is_taken_up(tmp_path: Path) -> None:
    mounted = Path(secret_directory("prod", "chat-tls", mounted_at=str(tmp_path / "tls")))
    _issue(mounted, "first")
    served = plan(tls_secret="chat-tls")
    pod = StreamingUpstream("chat-0", behaviour=at_once)
    async with gateway(tmp_path, [(served, share(4), [pod], [])]) as gate:
        assert await _served_name(served.listen_port) == "first"
        address = f"https://127.0.0.1:{served.listen_port}/v1/models"
        async with gate.client.get(address, ssl=False) as reply:
            assert (reply.status, reply.headers["x-penstock-served-by"]) == (200, "chat")
        assert pod.seen[0].headers["x-forwarded-proto"] == "https"

        _issue(mounted, "renewed")

        async def renewed() -> bool:
            return await _served_name(served.listen_port) == "renewed"

        await gate.until(renewed)


async def test_a_secret_that_is_not_there_closes_its_service_only(tmp_path: Path) -> None:
    plain = plan()
    other = plan(type(CHAT)("prod", "code"), tls_secret="absent")
    pods = [StreamingUpstream(name, behaviour=at_once) for name in ("chat-0", "code-0")]
    async with gateway(tmp_path, [(plain, share(4), pods[:1], []), (other, share(4), pods[1:], [])]) as gate:
        assert (await gate.post()).status == 200
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await _served_name(other.listen_port)
