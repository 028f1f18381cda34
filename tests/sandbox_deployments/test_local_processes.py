"""Real `penstock engine` processes: they start, drain, and never outlive those who started them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from penstock.sandbox.local_process import ContainerError, LocalContainer, LocalRuntime, engine_arguments

pytestmark = pytest.mark.timed

COMMAND = ["penstock", "engine", "--profile=llama-3.1-8b-h100"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie is dead; it only waits for its parent to look
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


async def until_ready(container: LocalContainer, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await container.ready():  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "the sandbox runs only 'penstock engine', not 'nothing'"),
        (["sh", "-c", "rm -rf /"], "the sandbox runs only 'penstock engine', not 'sh -c'"),
        (["penstock", "run"], "the sandbox runs only 'penstock engine', not 'penstock run'"),
        (["penstock", "engine", "--port=1"], "--port=1 is the sandbox's to choose: leave it out"),
        (["penstock", "engine", "--host", "0.0.0.0"], "--host is the sandbox's to choose: leave it out"),
    ],
)
def test_only_the_stand_in_engine_is_ever_started(command: list[str], message: str):
    with pytest.raises(ContainerError) as caught:
        engine_arguments(command)
    assert str(caught.value).startswith(message)
    assert caught.value.reason == "CreateContainerError"


async def test_an_engine_becomes_ready_after_its_start_up_and_drains_its_streams(tmp_path: Path):
    runtime = LocalRuntime(tmp_path)
    container = await runtime.start("chat-1", [*COMMAND, "--speed=0.2"], 0.7)
    assert isinstance(container, LocalContainer)
    try:
        assert not await container.ready()
        await until_ready(container)
        body = {"prompt": "a b c", "max_tokens": 20, "stream": True}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{container.url}/v1/completions", json=body) as response,
        ):
            await response.content.readline()
            stopping = asyncio.create_task(container.stop(20))
            text = await response.text()
        assert text.endswith("data: [DONE]\n\n")
        await asyncio.wait_for(stopping, 10)
        assert await container.wait() == 0
    finally:
        await container.stop(0)
    assert not alive(container.pid)
    assert (tmp_path / "chat-1.log").read_text().splitlines()[-1] == "stopped, 0 requests cut"


async def test_an_engine_that_cannot_start_says_why(tmp_path: Path):
    with pytest.raises(ContainerError, match="no engine profile is named 'nope'") as caught:
        await LocalRuntime(tmp_path).start("chat-1", ["penstock", "engine", "--profile=nope"], 0)
    assert caught.value.reason == "RunContainerError"


async def test_an_engine_that_does_not_drain_in_time_is_killed(tmp_path: Path):
    container = await LocalRuntime(tmp_path).start("chat-1", [*COMMAND, "--speed=0.01"], 0)
    assert isinstance(container, LocalContainer)
    await until_ready(container)
    async with aiohttp.ClientSession() as session:
        body = {"prompt": "a", "max_tokens": 1000, "stream": True}
        async with session.post(f"{container.url}/v1/completions", json=body) as response:
            await response.content.readline()
            start = time.monotonic()
            await container.stop(0.3)
            assert time.monotonic() - start < 5
    assert await container.wait() == -signal.SIGKILL


async def test_an_engine_dies_with_its_parent_however_that_ended(tmp_path: Path):
    script = f"""
import asyncio
from pathlib import Path
from penstock.sandbox.local_process import LocalRuntime
async def main():
    container = await LocalRuntime(Path({str(tmp_path)!r})).start("chat-1", {COMMAND!r}, 0)
    print(container.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(60):
            engine = int(await parent.stdout.readline())
        assert alive(engine)
    finally:
        parent.kill()
        await parent.wait()
    async with asyncio.timeout(10):
        while alive(engine):  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.05)
