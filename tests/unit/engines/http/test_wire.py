from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.http.wire import decode_completion, encode_request, read_error, read_retry_after
from flip_reward.errors import (
    ContextTooLongError,
    EngineBusyError,
    EngineError,
    EngineServerError,
    MalformedCompletionError,
    RequestRefusedError,
)


def answer(message: object, **fields: object) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **fields}).encode()


@given(st.text())
def test_every_text_is_sent_as_it_is(text: str) -> None:
    body = json.loads(encode_request("model", Request((Message("user", text),)), {}))
    assert body["messages"] == [{"role": "user", "content": text}]


@pytest.mark.parametrize(("text", "sent"), [("a\ud83c", "a\ufffd"), ("\ud83c\udf4e", "🍎"), ("\udf4e🍎", "\ufffd🍎")])
def test_lone_surrogates_become_replacement_characters(text: str, sent: str) -> None:
    body = json.loads(encode_request("model", Request((Message("user", text),)), {}))
    assert body["messages"][0]["content"] == sent


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": "Hi"}, "Hi"),
        ({"content": "", "reasoning_content": "hm"}, ""),
        ({"content": None, "reasoning": "hm"}, None),
        ({"role": "assistant", "refusal": "no"}, None),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]}, "Hi"),
    ],
)
def test_the_reply_is_the_visible_content(message: object, text: str | None) -> None:
    assert decode_completion(answer(message)) == Completion(text)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, 2)),
        ({"prompt_tokens": 5, "completion_tokens": None, "prompt_tokens_details": None}, Usage(5)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(5, 0, 4)),
    ],
)
def test_usage_is_read_where_there_is_one(usage: object, read: Usage) -> None:
    completion = decode_completion(answer({"content": "Hi"}, usage=usage))
    assert completion is not None
    assert completion.usage == read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html></html>",
        b"\xff\xfe",
        b'{"choices": [{"message": {"content": "Hi',
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"text": "Hi"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
    ],
)
def test_what_is_no_completion_is_none(body: bytes) -> None:
    assert decode_completion(body) is None


@pytest.mark.parametrize(("samples", "others"), [(1, []), (2, ["b"]), (4, ["b", None])])
def test_further_choices_are_the_other_samples(samples: int, others: list[str | None]) -> None:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("a", "b", None)]
    body = json.dumps({"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 9}}).encode()
    completion = decode_completion(body, n=samples)
    assert completion == Completion("a", usage=Usage(5, 9), others=tuple(map(Completion, others)))


@pytest.mark.parametrize(("samples", "sent"), [(1, None), (3, 3)])
def test_several_samples_are_asked_for_with_n(samples: int, sent: int | None) -> None:
    assert json.loads(encode_request("model", Request((), n=samples), {})).get("n") == sent


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(answer))
def test_no_body_raises(body: bytes) -> None:
    assert isinstance(decode_completion(body), Completion | None)


def read_body(status: int, body: object, *, secrets: tuple[str, ...] = ()) -> EngineError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(status, {}, data, address="http://host/v1", secrets=secrets)


def openai(message: str, code: str | int | None = None, kind: str = "error") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(
            400,
            openai("This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
            id="OpenAI",
        ),
        pytest.param(
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 16384 tokens. However, you requested 122946 "
                "tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages "
                "or completion.",
                "type": "BadRequestError",
                "code": 400,
            },
            id="vLLM, older",
        ),
        pytest.param(
            400,
            openai(
                "You passed 2049 input tokens and requested 0 output tokens. However, the model's context length is "
                "only 2048 tokens, resulting in a maximum input length of 2048 tokens. Please reduce the length of "
                "the input prompt. (parameter=input_tokens, value=2049)",
                400,
            ),
            id="vLLM",
        ),
        pytest.param(
            400,
            openai("The decoder prompt (length 5000) is longer than the maximum model length of 2048.", 400),
            id="vLLM engine",
        ),
        pytest.param(400, openai("max_tokens must be at least 1, got -186.", 400), id="vLLM max_tokens"),
        pytest.param(
            400,
            {
                "object": "error",
                "message": "The input (5000 tokens) is longer than the model's context length (2048 tokens).",
            },
            id="SGLang",
        ),
        pytest.param(
            400,
            {
                "object": "error",
                "message": "Requested token count exceeds the model's maximum context length of 2048 tokens. You "
                "requested a total of 3000 tokens.",
            },
            id="SGLang total",
        ),
        pytest.param(
            400,
            openai("Input length (5000 tokens) exceeds the maximum allowed length (4000 tokens).", 400),
            id="SGLang scheduler",
        ),
        pytest.param(
            400,
            openai(
                "request (2622 tokens) exceeds the available context size (512 tokens), try increasing it",
                400,
                "exceed_context_size_error",
            ),
            id="llama.cpp",
        ),
        pytest.param(
            500, openai("Context size has been exceeded.", 500, "server_error"), id="llama.cpp while generating"
        ),
        pytest.param(400, {"error": "the input length exceeds the context length"}, id="Ollama"),
        pytest.param(
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
                "`inputs` tokens and 100 `max_new_tokens`",
                "error_type": "validation",
            },
            id="TGI",
        ),
        pytest.param(
            400, openai("prompt is too long: 210000 tokens > 200000 maximum", None, "invalid_request"), id="Anthropic"
        ),
        pytest.param(
            400,
            openai("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 400),
            id="Gemini",
        ),
        pytest.param(413, b"<html>Request Entity Too Large</html>", id="a proxy in front"),
    ],
)
def test_a_prompt_over_the_context_is_recognised(status: int, body: object) -> None:
    assert type(read_body(status, body)) is ContextTooLongError


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, openai("temperature must be at most 2"), RequestRefusedError),
        (400, openai("Unknown field: context"), RequestRefusedError),
        (402, openai("Insufficient balance"), RequestRefusedError),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Input should be a valid integer"}]}, RequestRefusedError),
        (429, openai("Rate limit: at most 100000 tokens per minute, please reduce"), EngineBusyError),
        (429, openai("You exceeded your current quota", "insufficient_quota"), RequestRefusedError),
        (500, openai("CUDA out of memory"), EngineServerError),
        (529, b"", EngineServerError),
        (200, b"", MalformedCompletionError),
        (200, b'{"choices": [', MalformedCompletionError),
        (200, [], MalformedCompletionError),
        (200, {"error": {"message": "upstream is busy", "code": 429}}, EngineBusyError),
        (200, {"error": {"message": "upstream said no"}}, MalformedCompletionError),
    ],
)
def test_other_failures_are_told_apart(status: int, body: object, error: type[EngineError]) -> None:
    assert type(read_body(status, body)) is error


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (openai("No such\nfield"), "http://host/v1 answered 400: No such field"),
        ({"error": "No such field"}, "http://host/v1 answered 400: No such field"),
        ({"message": "No such field", "object": "error"}, "http://host/v1 answered 400: No such field"),
        ({"detail": "Not Found"}, "http://host/v1 answered 400: Not Found"),
        (b"<!doctype html><html>...</html>", "http://host/v1 answered 400: an HTML page"),
        (b"404 page not found\n", "http://host/v1 answered 400: 404 page not found"),
        (b"\xff\x00", "http://host/v1 answered 400: \ufffd\x00"),
        (b"", "http://host/v1 answered 400"),
        (b"17", "http://host/v1 answered 400"),
        ({"error": {"message": 17}}, "http://host/v1 answered 400"),
    ],
)
def test_the_message_of_the_server_is_passed_on_in_one_line(body: object, said: str) -> None:
    assert str(read_body(400, body)) == said


def test_a_long_message_is_cut() -> None:
    assert len(str(read_body(400, openai("word " * 10_000)))) < 350


@pytest.mark.parametrize("body", [openai("Wrong key sk-12345678!"), b"Wrong key sk-12345678!"])
def test_the_key_is_cut_out(body: object) -> None:
    assert str(read_body(400, body, secrets=("sk-12345678",))).endswith("Wrong key ***!")


def test_a_key_that_is_a_common_word_spoils_no_message() -> None:
    assert str(read_body(400, openai("none of this"), secrets=("none",))).endswith("none of this")


def test_the_cause_of_a_redirect_is_a_hint() -> None:
    error = read_error(301, {"Location": "https://host/v1"}, b"", address="http://host/v1")
    assert type(error) is RequestRefusedError
    assert error.hint == "it redirects to https://host/v1"


def test_retry_after_may_be_a_date() -> None:
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    seconds = read_retry_after(format_datetime(in_a_minute, usegmt=True))
    assert seconds is not None
    assert 50 < seconds <= 60
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0
    assert read_retry_after("-5") is None
    assert read_retry_after(None) is None
