"""Sends a schedule of requests for real, open loop, past a gate of the client's own where there is one.

A policy sees in wall-clock time what it sees in the simulation. Requests without a gate go to one address;
with sidecars the generator balances over the engines itself. Clients may retry as the OpenAI library does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import orjson

from bench.engines import MODEL
from bench.gates import Open
from bench.limiters import RetryingClient
from bench.simulated_pool import Offered, Policy, Pool
from penstock.engine.openai_api import Endpoint

_REFUSED = frozenset({429, 503})
_REST_SECONDS = 10.0  # for the answers after the last request


@dataclass(slots=True)
class Answer:
    """What became of one request; seconds from when it was due, NaN: did not happen."""

    due: float
    request_class: str = ""
    status: int = 0
    served_by: str = ""
    first: float = math.nan
    last: float = math.nan
    events: int = 0
    complete: bool = False
    attempts: int = 0
    reached: int = 0  # attempts that an engine took
    late: float = 0.0  # of the generator
    asked: float = math.nan  # the attempt that was taken

    def good(self, ttft_seconds: float, tpot_seconds: float) -> bool:
        """Whether it was answered completely within both objectives."""
        if not self.complete or self.first - self.asked > ttft_seconds:
            return False
        return self.events < 2 or (self.last - self.first) / (self.events - 1) <= tpot_seconds


@dataclass(slots=True)
class Generator:
    """One run; `targets` are base URLs, one a replica when the policy balances, else the gateway alone."""

    targets: Sequence[str]
    policy: Policy = field(default_factory=Open)
    client: RetryingClient | None = None
    class_header: str = "x-request-class"
    answers: list[Answer] = field(default_factory=list)
    _pool: Pool = field(init=False)
    _began: float = 0.0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(23))

    def __post_init__(self) -> None:
        self._pool = Pool([0] * len(self.targets), 0, [0] * len(self.targets))

    async def run(self, offered: Offered, classes: Sequence[str] = ()) -> list[Answer]:
        """Send everything on time; what is not answered some seconds after the last request is given up."""
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout()) as session:
            self._began = loop.time()
            try:
                for number, due in enumerate(offered.arrivals.tolist()):
                    await asyncio.sleep(max(0.0, due - self._now()))
                    answer = Answer(due, classes[number] if classes else "")
                    answer.late = self._now() - due
                    self.answers.append(answer)
                    sizes = int(offered.prompts[number]), int(offered.outputs[number])
                    task = asyncio.create_task(self._request(session, answer, number, *sizes))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                if tasks:
                    await asyncio.wait(tasks, timeout=_REST_SECONDS)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return self.answers

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _request(
        self, session: aiohttp.ClientSession, answer: Answer, salt: int, prompt: int, output: int
    ) -> None:
        while True:
            retry_after = await self._attempt(session, answer, salt, prompt, output)
            attempt = answer.attempts
            answer.attempts += 1
            if self.client is None or answer.status not in _REFUSED:
                return
            wait = self.client.wait_seconds(attempt, retry_after, float(self._random.random()))
            if wait is None:
                return
            await asyncio.sleep(wait)

    async def _attempt(
        self, session: aiohttp.ClientSession, answer: Answer, salt: int, prompt: int, output: int
    ) -> float | None:
        """Ask once; return the Retry-After of a refusal."""
        pool, policy = self._pool, self.policy
        asked = self._now() if answer.attempts else answer.due
        replica = pool.in_flight.index(min(pool.in_flight))
        if not policy.admits(self._now(), pool, replica, prompt):
            answer.status = 429
            return None
        pool.in_flight[replica] += 1
        found = pool.in_flight[replica]
        pool.tokens_in_prefill[replica] += prompt
        waiting = prompt
        headers = {self.class_header: answer.request_class} if answer.request_class else {}
        body = {
            "model": MODEL,
            "prompt": [100 + salt % 900] * prompt,
            "max_tokens": output,
            "ignore_eos": True,
            "stream": True,
        }
        try:
            async with session.post(
                self.targets[replica] + Endpoint.COMPLETIONS,
                data=orjson.dumps(body),
                headers={"content-type": "application/json", **headers},
            ) as response:
                answer.status = response.status
                answer.served_by = response.headers.get("x-penstock-served-by", "")
                if response.status != 200:
                    seconds = response.headers.get("retry-after")
                    return float(seconds) if seconds else None
                answer.reached += 1
                answer.asked = asked
                tail = b""
                async for data in response.content.iter_any():
                    answer.last = self._now()
                    if math.isnan(answer.first):
                        answer.first = answer.last
                        pool.tokens_in_prefill[replica] -= waiting
                        waiting = 0
                        policy.first_token(answer.last, replica, answer.first - asked, found)
                    answer.events += data.count(b"data: {")
                    tail = (tail + data)[-16:]
                answer.complete = b"[DONE]" in tail
                policy.ended(answer.last, replica, answer.last - asked, found)
        except (aiohttp.ClientError, ConnectionError):
            answer.status = answer.status or 599
        finally:
            pool.in_flight[replica] -= 1
            pool.tokens_in_prefill[replica] -= waiting
        return None
