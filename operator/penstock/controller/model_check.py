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
class Checked:
    """What came of a check: `refusal` says why no traffic may go there, "" when it may."""

    refusal: str
    again_at: float  # monotonic seconds


@dataclass(slots=True)
class ModelCheck:
    """Checks fallbacks in the background; `refusal_of` answers from what is known."""

    _session: aiohttp.ClientSession
    _known: dict[tuple[Backend, tuple[str, ...]], Checked] = field(default_factory=dict)
    _running: set[tuple[Backend, tuple[str, ...]]] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def refusal_of(self, backend: Backend, names: Sequence[str], endpoints: Sequence[Endpoint]) -> str | None:
        """Return why the backend may not be used, "" when it may, None while that is not known yet."""
        if not names:
            return ""  # the service names no models: nothing to compare
        key = backend, tuple(names)
        known = self._known.get(key)
        serving = [each for each in endpoints if each.serving]
        if serving and key not in self._running and (known is None or time.monotonic() >= known.again_at):
            self._running.add(key)
            task = asyncio.create_task(self._check(key, serving[0]), name=f"models of {backend.service}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None if known is None else known.refusal

    async def _check(self, key: tuple[Backend, tuple[str, ...]], endpoint: Endpoint) -> None:
        backend, names = key
        try:
            served = await self._served(endpoint)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            known = self._known.get(key)
            if known is None or known.refusal:
                refusal = f"{backend.service} does not tell its models (GET /v1/models: {_cause(error)})"
                self._known[key] = Checked(refusal, time.monotonic() + AGAIN_AFTER_FAILURE_SECONDS)
            else:  # it did accept them; one lost answer is no reason to take the fallback away
                self._known[key] = Checked("", time.monotonic() + AGAIN_AFTER_FAILURE_SECONDS)
        else:
            self._known[key] = Checked(refusal_for(backend, names, served), time.monotonic() + AGAIN_SECONDS)
        finally:
            self._running.discard(key)

    async def _served(self, endpoint: Endpoint) -> frozenset[str]:
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
        return frozenset(str(each["id"]) for each in entries if isinstance(each, Mapping) and "id" in each)


def refusal_for(backend: Backend, names: Sequence[str], served: frozenset[str]) -> str:
    """Return why a backend that serves `served` may not take requests for `names`; "" when it may."""
    missing = [name for name in names if name not in served]
    if not missing:
        return ""
    return (
        f"{backend.service} does not accept model {missing[0]!r}: start it with that name too "
        f"(vLLM: --served-model-name); it serves {', '.join(sorted(served)[:5]) or 'nothing'}"
    )


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__
