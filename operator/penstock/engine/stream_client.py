"""One streamed completion as a client sees it: when each token came, and how the request ended.

Token times are those of the events that carry text; where a server packs several tokens into one
event, the usage it reports at the end says how many there were (TPOT uses it, gaps cannot).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp
import orjson

from penstock.engine.arrivals import PlannedRequest
from penstock.engine.openai_api import Endpoint

OK = "ok"
NO_TOKENS = "no tokens"
NO_DESCRIPTORS = "no file descriptors"  # on this machine: the server was not asked
MAX_EVENT_BYTES = 1024 * 1024
END_SECONDS = 1.0  # from the end mark to the end of the body
SERVED_BY, REASON = "x-penstock-served-by", "x-penstock-reason"


@dataclass(slots=True)
class RequestRecord:
    """What happened to one request. Times in seconds from the start of the load; None: did not happen."""

    planned: PlannedRequest
    sent_at: float | None = None
    url: str = ""
    first_token_at: float | None = None
    last_token_at: float | None = None
    events: int = 0
    output_tokens: int = 0
    outcome: str = "unfinished"  # "ok", or the kind of error
    served_by: str = ""  # what a gateway of Penstock's says of the answer; empty: none in between
    served_because: str = ""

    @property
    def ttft_seconds(self) -> float | None:
        """Time to first token, from when the request was due: a late generator must not flatter."""
        return None if self.first_token_at is None else self.first_token_at - self.planned.at_seconds

    @property
    def latency_seconds(self) -> float | None:
        """Time to last token."""
        return None if self.last_token_at is None else self.last_token_at - self.planned.at_seconds

    @property
    def tpot_seconds(self) -> float | None:
        """(last - first token) / (tokens - 1); None for answers of one token."""
        if self.first_token_at is None or self.last_token_at is None or self.output_tokens < 2:
            return None
        return (self.last_token_at - self.first_token_at) / (self.output_tokens - 1)


class Connections(StrEnum):
    """Who sends: one client that keeps its connections, or many that each open one.

    A Service balances connections: those that are kept stay with the replicas of their time.
    """

    KEPT = "kept"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What all requests have in common."""

    endpoint: Endpoint = Endpoint.COMPLETIONS
    model_name: str = ""  # empty: not sent
    headers: dict[str, str] = field(default_factory=dict)
    connections: Connections = Connections.KEPT

    def body(self, planned: PlannedRequest, salt: int) -> bytes:
        """Return the JSON body; `salt` makes prompts differ from their start, so that no prefix is cached."""
        fields: dict[str, object] = {
            "max_tokens": planned.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.model_name:
            fields["model"] = self.model_name
        if self.endpoint is Endpoint.CHAT:
            words = f"{salt} " + "water " * (planned.input_tokens - 1)
            fields["messages"] = [{"role": "user", "content": words}]
            return orjson.dumps(fields)
        # Ids 100..999 are ordinary tokens in every vocabulary in use; 16 of them fill vLLM's first block.
        # As digits to the base of 900 no two salts share them; shifts by a bit repeat after 30 million.
        first = [100 + salt // 900**place % 900 for place in range(16)][: planned.input_tokens]
        ids = first + [100] * (planned.input_tokens - len(first))
        return orjson.dumps(fields | {"prompt": ids})


async def stream_completion(
    session: aiohttp.ClientSession,
    record: RequestRecord,
    *,
    url: str,
    body: bytes,
    shape: RequestShape,
    now: Callable[[], float],
    on_gap: Callable[[float], None],
) -> None:
    """Send one request and fill its record; errors become its outcome. `on_gap` gets inter-token times."""
    headers = {"Content-Type": "application/json", **shape.headers}
    try:
        async with session.post(url + shape.endpoint, data=body, headers=headers) as response:
            record.served_by = response.headers.get(SERVED_BY, "")
            record.served_because = response.headers.get(REASON, "")
            if response.status != 200:
                record.outcome = f"http {response.status}"
                return
            record.outcome = await _read(response.content, record, now, on_gap)
            if record.outcome == OK:
                await _read_end(response.content)
    except TimeoutError:
        record.outcome = "timeout"
    except aiohttp.ClientConnectorError as error:
        exhausted = error.os_error.errno in (errno.EMFILE, errno.ENFILE)
        record.outcome = NO_DESCRIPTORS if exhausted else "connect"
    except (aiohttp.ClientError, ConnectionError):
        record.outcome = "cut" if record.first_token_at is not None else "reset"


async def _read(
    content: aiohttp.StreamReader,
    record: RequestRecord,
    now: Callable[[], float],
    on_gap: Callable[[float], None],
) -> str:
    rest = b""
    async for data in content.iter_any():
        at = now()
        *events, rest = (rest + data).split(b"\n\n")
        if len(rest) > MAX_EVENT_BYTES:
            return "not a completion"
        for event in events:
            if not event.startswith(b"data:"):
                continue  # a comment or another field of the SSE format
            payload = event[5:].strip()
            if payload == b"[DONE]":
                record.output_tokens = record.output_tokens or record.events
                return OK if record.events else NO_TOKENS
            try:
                fields = orjson.loads(payload)
                if "error" in fields:
                    return "stream error"
                if usage := fields.get("usage"):
                    record.output_tokens = int(usage["completion_tokens"])
                has_text = _has_text(fields)
            except (ValueError, KeyError, TypeError, AttributeError):
                return "not a completion"
            if has_text:
                if record.last_token_at is None:
                    record.first_token_at = at
                else:
                    on_gap(at - record.last_token_at)
                record.last_token_at = at
                record.events += 1
    return "cut"


async def _read_end(content: aiohttp.StreamReader) -> None:
    """Read past the end mark: only a body read to its end leaves its connection to the next request."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, ConnectionError):
        async with asyncio.timeout(END_SECONDS):
            async for _ in content.iter_any():
                pass


def _has_text(fields: dict[str, Any]) -> bool:
    if not fields.get("choices"):
        return False
    choice = fields["choices"][0]
    delta = choice.get("delta") or {}
    # vLLM calls the thoughts of a reasoning model `reasoning`, older ones and others `reasoning_content`.
    texts = (choice.get("text"), *map(delta.get, ("content", "reasoning", "reasoning_content")))
    return any(texts)
