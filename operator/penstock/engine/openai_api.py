"""OpenAI's completions and chat completions: requests in, response bodies out, errors as vLLM words them.

The stand-in generates exactly `max_tokens` tokens (as vLLM does under `ignore_eos`), because the
length of an answer is an input of the load, not a property of this engine. Prompt length: the
number of token ids, or of whitespace-separated words, or the `x-penstock-input-tokens` header,
which states it without sending a prompt of that size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

INPUT_TOKENS_HEADER = "x-penstock-input-tokens"
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's and vLLM's default
DEFAULT_CHAT_TOKENS = 128  # vLLM fills the context instead; a stand-in that never stops helps nobody
WORDS = ("the", "water", "falls", "through", "a", "gate", "and", "turns", "a", "wheel")


class Endpoint(StrEnum):
    """Which API a request came by; the value is its path."""

    COMPLETIONS = "/v1/completions"
    CHAT = "/v1/chat/completions"


class ApiError(Exception):
    """An error with its HTTP status, in OpenAI's format."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param

    def body(self) -> bytes:
        """Return the JSON body."""
        return orjson.dumps(
            {
                "error": {
                    "message": str(self),
                    "type": _ERROR_TYPES.get(self.status, "InternalServerError"),
                    "param": self.param,
                    "code": self.status,
                }
            }
        )


_ERROR_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    405: "BadRequestError",
    413: "BadRequestError",
    503: "ServiceUnavailableError",
}


@dataclass(frozen=True, slots=True)
class Generation:
    """A parsed request."""

    endpoint: Endpoint
    input_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool


def parse(
    endpoint: Endpoint, body: bytes, headers: Mapping[str, str], model_names: Sequence[str]
) -> Generation:
    """Parse a request body; raises `ApiError` with what to send instead."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object.")
    model = fields.get("model", model_names[0])
    if model not in model_names:
        raise ApiError(404, f"The model `{model}` does not exist.", "model")
    if fields.get("n") not in (None, 1):
        raise ApiError(400, "n must be 1: this engine generates one answer a request.", "n")
    options = fields.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ApiError(400, "stream_options must be an object.", "stream_options")
    return Generation(
        endpoint=endpoint,
        input_tokens=_input_tokens(endpoint, fields, headers),
        output_tokens=_output_tokens(endpoint, fields),
        stream=fields.get("stream") is True,
        include_usage=options.get("include_usage") is True,
    )


def _output_tokens(endpoint: Endpoint, fields: dict[str, Any]) -> int:
    default = DEFAULT_CHAT_TOKENS if endpoint is Endpoint.CHAT else DEFAULT_COMPLETION_TOKENS
    for name in ("max_completion_tokens", "max_tokens"):
        tokens = fields.get(name)
        if tokens is None:
            continue
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            raise ApiError(400, f"{name} must be an integer of at least 1, got {tokens!r}.", name)
        return tokens
    return default


def _input_tokens(endpoint: Endpoint, fields: dict[str, Any], headers: Mapping[str, str]) -> int:
    stated = headers.get(INPUT_TOKENS_HEADER)
    if stated is not None:
        # isdecimal accepts other scripts' digits, and int reads them: harmless; the length bounds the cost
        if not (stated.isdecimal() and len(stated) <= 9 and int(stated) >= 1):
            raise ApiError(400, f"{INPUT_TOKENS_HEADER} must be an integer of at least 1, got {stated!r}.")
        return int(stated)
    if endpoint is Endpoint.CHAT:
        return _chat_tokens(fields.get("messages"))
    return _prompt_tokens(fields.get("prompt"))


def _prompt_tokens(prompt: object) -> int:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return max(1, len(prompt.split()))
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return len(prompt)
    raise ApiError(400, "prompt must be a text or a list of token ids; one prompt a request.", "prompt")


def _chat_tokens(messages: object) -> int:
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be a list of at least one message.", "messages")
    tokens = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if not isinstance(content, str):
            raise ApiError(400, "every message needs a content: a text or a list of parts.", "messages")
        tokens += len(content.split())
    return max(1, tokens)


class ResponseWriter:
    """Builds the bodies of one response: server-sent events, or one JSON document."""

    def __init__(self, generation: Generation, *, request_id: str, created: int, model_name: str) -> None:
        chat = generation.endpoint is Endpoint.CHAT
        self._generation = generation
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{request_id}",
            "object": "chat.completion" if chat else "text_completion",
            "created": created,
            "model": model_name,
        }
        self._stream_head = self._head | ({"object": "chat.completion.chunk"} if chat else {})
        self._position = 0
        # One token's event differs from the next only in its word: build the rest once a stream.
        marker = "\0"
        event = _event({**self._stream_head, "choices": [self._delta(marker, None)]})
        self._before, self._after = event.split(orjson.dumps(marker)[1:-1])

    def events(self, count: int) -> bytes:
        """Return the events of the next `count` tokens; the last token carries the finish reason."""
        parts = []
        if self._position == 0 and self._generation.endpoint is Endpoint.CHAT:
            role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            parts.append(_event({**self._stream_head, "choices": [role]}))
        for _ in range(count):
            word = " " + WORDS[self._position % len(WORDS)]
            self._position += 1
            if self._position < self._generation.output_tokens:
                parts += (self._before, word.encode(), self._after)
            else:
                parts.append(_event({**self._stream_head, "choices": [self._delta(word, "length")]}))
        return b"".join(parts)

    def last_events(self) -> bytes:
        """Return what follows the last token: the usage where asked for, and the end mark."""
        usage = b""
        if self._generation.include_usage:
            usage = _event({**self._stream_head, "choices": [], "usage": self._usage()})
        return usage + b"data: [DONE]\n\n"

    def document(self) -> bytes:
        """Return the whole answer of a request that does not stream."""
        text = "".join(" " + WORDS[i % len(WORDS)] for i in range(self._generation.output_tokens))
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": "length"}
        if self._generation.endpoint is Endpoint.CHAT:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        return orjson.dumps({**self._head, "choices": [choice], "usage": self._usage()})

    def _delta(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self._generation.endpoint is Endpoint.CHAT:
            return {**choice, "delta": {"content": text}}
        return {**choice, "text": text}

    def _usage(self) -> dict[str, int]:
        tokens = self._generation.input_tokens, self._generation.output_tokens
        return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"
