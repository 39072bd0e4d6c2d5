from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.core.replies.ending import Ending
from flip_reward.core.score import Usage
from flip_reward.engines.base import Completion, Request
from flip_reward.engines.http.wire import (
    decode_completion,
    encode_fields,
    make_fields,
    read_error,
    read_retry_after,
)
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
    body = json.loads(encode_fields(make_fields("model", Request((Message("user", text),)))))
    assert body["messages"] == [{"role": "user", "content": text}]


@pytest.mark.parametrize(("text", "sent"), [("a\ud83c", "a\ufffd"), ("\ud83c\udf4e", "🍎"), ("\udf4e🍎", "\ufffd🍎")])
def test_lone_surrogates_become_replacement_characters(text: str, sent: str) -> None:
    body = json.loads(encode_fields(make_fields("model", Request((Message("user", text),)))))
    assert body["messages"][0]["content"] == sent


def decode(body: bytes) -> Completion:
    completion = decode_completion(body)
    assert completion is not None
    return completion


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": "Hi"}, "Hi"),
        ({"role": "assistant", "content": "Hi", "refusal": None, "reasoning_content": "hm"}, "Hi"),
        ({"content": "", "reasoning_content": ""}, ""),
        ({"content": None}, None),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]}, "Hi"),
    ],
)
def test_the_reply_is_the_visible_content(message: object, text: str | None) -> None:
    assert decode_completion(answer(message)) == Completion(text)


@pytest.mark.parametrize("message", [{"refusal": "I must not."}, {"content": "I", "refusal": "I must not."}])
def test_a_refusal_is_kept_with_its_words(message: object) -> None:
    completion = decode(answer(message))
    assert Ending.of(completion.finish_reason) is Ending.FILTERED
    assert "I must not." in str(completion.detail)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_without_a_reply_says_so(name: str) -> None:
    assert "--no-thinking" in str(decode(answer({"content": None, name: "hm"})).detail)
    assert "--no-thinking" in str(decode(answer({"content": [{"type": name, name: "hm"}]})).detail)


@pytest.mark.parametrize("message", [{"content": None}, {"content": "", "reasoning_content": "Let me"}])
def test_a_reply_that_was_cut_before_it_began_says_so(message: object) -> None:
    body = json.dumps({"choices": [{"message": message, "finish_reason": "length"}]}).encode()
    assert "--max-tokens" in str(decode(body).detail)


@pytest.mark.parametrize("message", [{"message": None}, {"message": {}}, {}])
@pytest.mark.parametrize("reason", ["content_filter", "length", {"type": "length"}])
def test_what_a_filter_or_the_limit_left_nothing_of_is_a_reply_without_text(message: object, reason: object) -> None:
    choice = {"finish_reason": reason, **cast("dict[str, object]", message)}
    completion = decode(json.dumps({"choices": [choice]}).encode())
    assert completion.text is None
    assert Ending.of(completion.finish_reason) in (Ending.FILTERED, Ending.CUT)


def test_a_call_of_a_tool_is_no_reply() -> None:
    assert "tool" in str(decode(answer({"content": None, "tool_calls": [{"id": "1"}]})).detail)


def test_the_text_of_the_older_protocol_is_a_reply() -> None:
    assert decode(b'{"choices": [{"text": "Hi", "finish_reason": "stop"}]}') == Completion("Hi")


@pytest.mark.parametrize(
    ("choice", "error"),
    [
        ({"finish_reason": "abort"}, EngineServerError),
        ({"finish_reason": "error"}, EngineServerError),
        ({"finish_reason": "stop", "error": {"message": "Provider failed"}}, EngineServerError),
        ({"finish_reason": None, "error": {"code": 502, "message": "Provider failed"}}, EngineServerError),
        ({"finish_reason": "error", "error": {"code": 429, "message": "Provider failed"}}, EngineBusyError),
        ({"finish_reason": "error", "error": {"code": 400, "message": "Provider failed"}}, RequestRefusedError),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_failure_in_one_choice_is_no_reply(choice: dict[str, object], error: type[EngineError], place: int) -> None:
    whole: dict[str, object] = {"message": {"content": "Hi"}, "finish_reason": "stop"}
    choices = [whole, whole]
    choices[place] = {"message": {"content": "Provi"}, **choice}
    body = json.dumps({"choices": choices}).encode()
    assert decode_completion(body, n=2) is None
    failure = read_body(200, body)
    assert type(failure) is error
    assert "Provider failed" in str(failure) or str(choice["finish_reason"]) in str(failure)


@pytest.mark.parametrize(
    "odd",
    [b"Hi \\ud83d", b"Hi \xf0\x9f", b"Hi \x00", b"Hi\n", b'Hi", "logprobs": NaN, "x": "', b'Hi", "x": 1e999, "y": "'],
    ids=["half a pair", "cut UTF-8", "control character", "line break", "NaN", "too large"],
)
def test_one_odd_value_does_not_throw_the_reply_away(odd: bytes) -> None:
    body = b'\xef\xbb\xbf\xef\xbb\xbf{"choices": [{"message": {"content": "%b"}, "finish_reason": "stop"}]}' % odd
    text = decode(body).text
    assert text is not None
    assert text.startswith("Hi")
    assert text.encode()


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
        b'{"choices": [{"text": null, "error": {"code": 502}}]}',
        b'{"error": {"message": "no"}, "choices": [{"message": {"content": "Hi"}}]}',
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
    assert json.loads(encode_fields(make_fields("model", Request((), n=samples)))).get("n") == sent


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
        (200, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, EngineBusyError),
        (200, [{"error": {"code": 503, "message": "slow down", "status": "UNAVAILABLE"}}], EngineServerError),
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
        ([{"error": {"code": 400, "message": "No such field"}}], "http://host/v1 answered 400: No such field"),
        (
            {"message": {"detail": [{"loc": ["body", "n"], "msg": "No such field", "input": 3}]}, "type": "x"},
            "http://host/v1 answered 400: body.n: No such field",
        ),
        (
            {"detail": [{"loc": ["body", 0], "msg": "No"}, {"loc": ["body", 1], "msg": "Nor this"}]},
            "http://host/v1 answered 400: body.0: No; body.1: Nor this",
        ),
        ({"errors": [{"message": "No such field"}]}, "http://host/v1 answered 400: No such field"),
        ({"errors": ["No such field"]}, "http://host/v1 answered 400: No such field"),
        ({"fault": {"faultstring": "No such field"}}, "http://host/v1 answered 400: No such field"),
        ({"error": "Bad Request", "message": "No such field"}, "http://host/v1 answered 400: No such field"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "No such field"}}},
            "http://host/v1 answered 400: Provider returned error: No such field",
        ),
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
    seconds = read_retry_after({"Retry-After": format_datetime(in_a_minute, usegmt=True)})
    assert seconds is not None
    assert 50 < seconds <= 60
    assert read_retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 -0000"}) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": " 0.5 "}, 0.5),
        ({"Retry-After": "5, 10"}, 5.0),
        ({"Retry-After": "1m30s"}, 90.0),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "1893456000"}, None),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:60 GMT"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 31 Dec 99999 23:59:60 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 +99999999999"}, 0.0),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        ({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "80"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s", "Retry-After": "1"}, 1.0),
    ],
)
def test_how_long_to_wait_is_read_in_any_form(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


@given(
    st.text() | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{1,12} [+-]?[0-9A-Z]{0,12}")
)
def test_no_header_raises(value: str) -> None:
    seconds = read_retry_after({"Retry-After": value, "retry-after-ms": value})
    assert seconds is None or seconds >= 0
