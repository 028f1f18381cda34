"""The HTTP face of a stand-in replica: OpenAI's API, `/health` and `/metrics` as vLLM serves them.

States: starting (everything answers 503), ready, draining (new requests get 503, those in flight
finish). A slow client delays only its own stream: its tokens are counted, not buffered.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

import orjson
from aiohttp import web

from penstock.engine.batch_loop import DoesNotFitError, EngineLimits, StepWork
from penstock.engine.faults import Faults
from penstock.engine.openai_api import ApiError, Endpoint, Generation, ResponseWriter, parse
from penstock.engine.replica import Replica, TokenStream
from penstock.engine.vllm_metrics import VllmMetrics

MAX_BODY_BYTES = 4 * 1024 * 1024  # a million token ids written out are 6 MB; no context is that long
KEEPALIVE_SECONDS = 5.0  # uvicorn's default, seen with the real server: clients must cope
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What one stand-in engine is: its model's name, limits and timing, and what goes wrong with it."""

    model_name: str
    limits: EngineLimits
    max_model_tokens: int
    step_seconds: Callable[[StepWork], float]
    frontend_seconds: float
    max_in_flight: int = 2048
    other_names: tuple[str, ...] = ()  # by which clients may ask too; replies and metrics say `model_name`
    faults: Faults = field(default_factory=Faults)
    seed: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names of the model, the one of replies first."""
        return (self.model_name, *self.other_names)


class State(StrEnum):
    """Life of a replica."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class EngineServer:
    """One replica and its HTTP application; `serve` runs its steps."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.state = State.STARTING
        self._id = uuid.uuid4().hex
        self._made_at = asyncio.get_running_loop().time()
        self._ready_at = 0.0
        self._chance = random.Random(settings.seed)  # noqa: S311 - which request fails is no secret
        self._open_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.replica = Replica(
            limits=settings.limits,
            step_seconds=self._step_seconds,
            frontend_seconds=settings.frontend_seconds,
        )
        batch = self.replica.batch
        clock = asyncio.get_running_loop().time
        self._metrics = VllmMetrics(
            model_name=settings.model_name,
            limits=settings.limits,
            max_model_tokens=settings.max_model_tokens,
            waiting=lambda: batch.waiting_count(clock()),
            running=lambda: batch.running_count,
            kv_usage_ratio=lambda: batch.kv_usage_ratio,
        )
        self.replica.on_step = self._metrics.step

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(middlewares=[self._answer_errors], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._expose)
        app.router.add_get("/v1/models", self._models)
        for endpoint in Endpoint:
            app.router.add_post(endpoint, self._generate)
        return app

    def become_ready(self) -> None:
        """Start to accept requests."""
        self._ready_at = asyncio.get_running_loop().time()
        self.state = State.READY

    async def drain(self) -> None:
        """Refuse new requests and return when those in flight are answered."""
        self.state = State.DRAINING
        await self._idle.wait()

    @property
    def open_requests(self) -> int:
        """Requests that are being answered."""
        return self._open_requests

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._ready_at

    def _step_seconds(self, work: StepWork) -> float:
        return self.settings.step_seconds(work) * self.settings.faults.step_factor(self._age())

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ApiError as error:
            response = _error_response(error)
        except web.HTTPException as error:
            message = f"The body exceeds {MAX_BODY_BYTES} bytes." if error.status == 413 else error.reason
            response = _error_response(ApiError(error.status, f"{message} ({request.method} {request.path})"))
        route = request.match_info.route.resource
        # Labels must be ours: a client's own paths and methods would grow the series without bound.
        path, method = (route.canonical, request.method) if route is not None else ("none", "none")
        self._metrics.http(handler=path, method=method, status=response.status)
        return response

    async def _health(self, _request: web.Request) -> web.Response:
        lag = self.replica.lag
        details = {
            "status": self.state,
            "running": self.replica.batch.running_count,
            "in_flight": self.replica.in_flight,
            "step_lag": {  # of this process: behind one URL there may be several
                "engine": self._id,
                "age_seconds": asyncio.get_running_loop().time() - self._made_at,
                "steps": lag.steps,
                "scheduled_seconds": lag.scheduled_seconds,
                "lag_seconds": lag.lag_seconds,
                "worst_seconds": lag.worst_seconds,
            },
        }
        status = 200 if self.state is State.READY else 503
        return web.Response(body=orjson.dumps(details), status=status, content_type="application/json")

    async def _expose(self, _request: web.Request) -> web.Response:
        if self.state is State.STARTING:
            raise ApiError(503, "The engine is starting.")
        if self.settings.faults.metrics_hang(self._age()):
            await asyncio.Event().wait()
        # aiohttp refuses a charset inside content_type; Prometheus needs the version
        return web.Response(
            body=self._metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _models(self, _request: web.Request) -> web.Response:
        if self.state is State.STARTING:
            raise ApiError(503, "The engine is starting.")
        models = [
            {
                "id": name,
                "object": "model",
                "owned_by": "penstock",
                "max_model_len": self.settings.max_model_tokens,
            }
            for name in self.settings.names
        ]
        return web.Response(
            body=orjson.dumps({"object": "list", "data": models}), content_type="application/json"
        )

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if self.state is not State.READY:
            raise ApiError(503, f"The engine is {self.state}.")
        if self._open_requests >= self.settings.max_in_flight:
            self._metrics.rejected()
            raise ApiError(503, f"The engine holds {self._open_requests} requests, its limit.")
        self._open_requests += 1
        self._idle.clear()
        try:
            return await self._answer(request)
        finally:
            self._open_requests -= 1
            if not self._open_requests:
                self._idle.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        settings = self.settings
        body = await request.read()
        generation = parse(Endpoint(request.path), body, request.headers, settings.names)
        if generation.input_tokens + generation.output_tokens > settings.max_model_tokens:
            raise ApiError(
                400,
                f"This model's maximum context length is {settings.max_model_tokens} tokens. However, you "
                f"requested {generation.output_tokens} output tokens and your prompt contains "
                f"{generation.input_tokens} input tokens. Reduce one of them.",
                "max_tokens",
            )
        if settings.faults.fails(self._chance):
            self._metrics.failed()
            raise ApiError(500, "Injected failure (--fail-ratio).")
        try:
            tokens = self.replica.submit(
                input_tokens=generation.input_tokens, output_tokens=generation.output_tokens
            )
        except DoesNotFitError as error:
            raise ApiError(400, f"{error}.") from error
        writer = ResponseWriter(
            generation,
            request_id=uuid.uuid4().hex,
            created=int(time.time()),
            model_name=settings.model_name,
        )
        try:
            if generation.stream:
                return await self._stream(request, generation, tokens, writer)
            while await tokens.next_tokens():
                pass
            return web.Response(body=writer.document(), content_type="application/json")
        finally:
            if not tokens.sequence.finished:  # the client is gone; a finished one is counted, read or not
                self.replica.drop(tokens)
                self._metrics.aborted()

    async def _stream(
        self, request: web.Request, generation: Generation, tokens: TokenStream, writer: ResponseWriter
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        # vLLM sends the headers with the first token, so a refusal can still become a status
        count = await tokens.next_tokens()
        await response.prepare(request)
        cut = self.settings.faults.cuts(self._chance)
        while count:
            await response.write(writer.events(count))
            if cut:
                if request.transport is not None:
                    request.transport.abort()
                return response
            count = await tokens.next_tokens()
        await response.write(writer.last_events())
        await response.write_eof()
        return response


def _error_response(error: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if error.status == 503 else {}
    return web.Response(
        body=error.body(), status=error.status, content_type="application/json", headers=headers
    )
