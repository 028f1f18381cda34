"""Whether a fallback accepts the names that clients put in ``model``: asked before traffic goes there.

A fallback that refuses the name would turn an overload into errors. One GET of ``/v1/models`` on one of
its endpoints, bounded in time and size, repeated every few minutes; names come and go with LoRA adapters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from penstock.model.traffic import Backend, Endpoint

TIMEOUT_SECONDS = 2.0
LARGEST_ANSWER_BYTES = 256 * 1024
AGAIN_SECONDS = 300.0
AGAIN_AFTER_FAILURE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """The models a backend lists: None while nobody answered, and `unanswered` says why."""

    models: tuple[str, ...] | None = None
    unanswered: str = ""


_UNKNOWN = Served()


@dataclass(slots=True)
class ModelCheck:
    """Asks in the background; `served` answers from what is known."""

    _session: aiohttp.ClientSession
    _known: dict[Backend, tuple[Served, float]] = field(default_factory=dict)  # and when to ask again
    _running: set[Backend] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def served(self, backend: Backend, endpoints: Sequence[Endpoint]) -> Served:
        """Return what `backend` serves as far as it is known; asks one of its endpoints when it is time."""
        known, again_at = self._known.get(backend, (_UNKNOWN, 0.0))
        serving = [each for each in endpoints if each.serving]
        if serving and backend not in self._running and time.monotonic() >= again_at:
            self._running.add(backend)
            task = asyncio.create_task(self._check(backend, serving[0]), name=f"models of {backend.service}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known

    async def _check(self, backend: Backend, endpoint: Endpoint) -> None:
        try:
            found, again = Served(await self._models(endpoint)), AGAIN_SECONDS
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # Once it has told them, one lost answer is no reason to take the fallback away.
            known = self._known.get(backend, (_UNKNOWN, 0.0))[0]
            cause = f"GET /v1/models: {str(error) or type(error).__name__}"
            found = known if known.models is not None else Served(None, cause)
            again = AGAIN_AFTER_FAILURE_SECONDS
        finally:
            self._running.discard(backend)
        self._known[backend] = found, time.monotonic() + again

    async def _models(self, endpoint: Endpoint) -> tuple[str, ...]:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with self._session.get(
            f"http://{host}:{endpoint.port}/v1/models", timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            body = await answer.content.read(LARGEST_ANSWER_BYTES)
        parsed = orjson.loads(body)
        entries = parsed.get("data") if isinstance(parsed, Mapping) else None
        if not isinstance(entries, list):
            raise ValueError("no list of models came back")
        return tuple(
            sorted(str(each["id"]) for each in entries if isinstance(each, Mapping) and "id" in each)
        )
