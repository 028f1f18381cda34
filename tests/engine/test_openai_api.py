"""Requests as clients write them, answers as clients read them."""

from __future__ import annotations

import orjson
import pytest

from penstock.engine.openai_api import ApiError, Endpoint, Generation, ResponseWriter, parse

COMPLETIONS, CHAT = Endpoint.COMPLETIONS, Endpoint.CHAT
BAD_N = "n must be 1: this engine generates one answer a request."
BAD_PROMPT = "prompt must be a text or a list of token ids; one prompt a request."
BAD_TOKENS = "max_tokens must be an integer of at least 1, got {}."
BAD_CONTENT = "every message needs a content: a text or a list of parts."


def parsed(endpoint: Endpoint, body: object, **headers: str) -> Generation:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return parse(endpoint, orjson.dumps(body), names, ("m", "alias"))


@pytest.mark.parametrize(
    ("endpoint", "body", "input_tokens", "output_tokens"),
    [
        (COMPLETIONS, {"prompt": "four words of text"}, 4, 16),
        (COMPLETIONS, {"prompt": ""}, 1, 16),
        (COMPLETIONS, {"prompt": [5, 6, 7], "max_tokens": 9}, 3, 9),
        (COMPLETIONS, {"prompt": [[5, 6, 7]]}, 3, 16),
        (COMPLETIONS, {"prompt": ["two words"], "model": "m", "n": 1}, 2, 16),
        (CHAT, {"messages": [{"role": "user", "content": "a b"}, {"role": "user", "content": "c"}]}, 3, 128),
        (CHAT, {"messages": [{"content": [{"type": "text", "text": "a b c"}]}], "max_tokens": 2}, 3, 2),
        (CHAT, {"messages": [{"content": "a"}], "max_tokens": 2, "max_completion_tokens": 7}, 1, 7),
    ],
)
def test_lengths_are_read_from_the_request(
    endpoint: Endpoint, body: object, input_tokens: int, output_tokens: int
):
    generation = parsed(endpoint, body)
    assert (generation.input_tokens, generation.output_tokens) == (input_tokens, output_tokens)


def test_the_header_states_a_prompt_length_without_the_prompt():
    assert parsed(COMPLETIONS, {}, x_penstock_input_tokens="1155").input_tokens == 1155


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "message"),
    [
        (COMPLETIONS, [], 400, "The body must be a JSON object."),
        (COMPLETIONS, {"prompt": "a", "model": "x"}, 404, "The model `x` does not exist."),
        (COMPLETIONS, {"prompt": "a", "n": 2}, 400, BAD_N),
        (COMPLETIONS, {}, 400, BAD_PROMPT),
        (COMPLETIONS, {"prompt": []}, 400, BAD_PROMPT),
        (COMPLETIONS, {"prompt": ["a", "b"]}, 400, BAD_PROMPT),
        (COMPLETIONS, {"prompt": "a", "max_tokens": 0}, 400, BAD_TOKENS.format("0")),
        (COMPLETIONS, {"prompt": "a", "max_tokens": True}, 400, BAD_TOKENS.format("True")),
        (COMPLETIONS, {"prompt": "a", "max_tokens": "9"}, 400, BAD_TOKENS.format("'9'")),
        (COMPLETIONS, {"prompt": "a", "stream_options": 1}, 400, "stream_options must be an object."),
        (CHAT, {"messages": []}, 400, "messages must be a list of at least one message."),
        (CHAT, {"messages": [{"role": "user"}]}, 400, BAD_CONTENT),
        (CHAT, {"messages": ["hello"]}, 400, BAD_CONTENT),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_what_to_send(endpoint: Endpoint, body: object, status: int, message: str):
    with pytest.raises(ApiError) as caught:
        parsed(endpoint, body)
    assert (caught.value.status, str(caught.value)) == (status, message)
    error = orjson.loads(caught.value.body())["error"]
    assert (error["message"], error["code"]) == (message, status)


@pytest.mark.parametrize("stated", ["0", "-1", "many", "1.5", "9" * 30])
def test_a_bad_length_header_is_refused(stated: str):
    with pytest.raises(ApiError, match="x-penstock-input-tokens must be an integer of at least 1"):
        parsed(COMPLETIONS, {}, x_penstock_input_tokens=stated)


def test_a_body_that_is_not_json_is_refused():
    with pytest.raises(ApiError, match="The body is not valid JSON"):
        parse(COMPLETIONS, b'{"prompt": ', {}, ("m",))


def events(data: bytes) -> list[object]:
    parts = data.split(b"\n\n")
    assert parts.pop() == b""
    assert all(part.startswith(b"data: ") for part in parts)
    return [part[6:] if part[6:] == b"[DONE]" else orjson.loads(part[6:]) for part in parts]


def writer(endpoint: Endpoint, tokens: int, *, usage: bool = False) -> ResponseWriter:
    generation = Generation(endpoint, 7, tokens, stream=True, include_usage=usage)
    return ResponseWriter(generation, request_id="1", created=5, model_name="m")


def test_a_stream_has_one_event_a_token_the_last_with_the_reason_then_usage_and_the_end():
    out = writer(COMPLETIONS, 3, usage=True)
    seen = events(out.events(2) + out.events(1) + out.last_events())
    assert [event["choices"][0]["text"] for event in seen[:3]] == [" the", " water", " falls"]
    assert [event["choices"][0]["finish_reason"] for event in seen[:3]] == [None, None, "length"]
    assert seen[3]["choices"] == []
    assert seen[3]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert seen[4:] == [b"[DONE]"]


def test_a_chat_stream_begins_with_the_role():
    out = writer(CHAT, 1)
    seen = events(out.events(1) + out.last_events())
    assert [event["choices"][0]["delta"] for event in seen[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": " the"},
    ]
    assert seen[-2]["object"] == "chat.completion.chunk"


@pytest.mark.parametrize(("endpoint", "text"), [(COMPLETIONS, ("text",)), (CHAT, ("message", "content"))])
def test_an_answer_that_does_not_stream_has_all_words(endpoint: Endpoint, text: tuple[str, ...]):
    document = orjson.loads(writer(endpoint, 4).document())
    value = document["choices"][0]
    for key in text:
        value = value[key]
    assert len(value.split()) == 4
    assert document["usage"]["total_tokens"] == 11
