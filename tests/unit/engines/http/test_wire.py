from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Completion, Request, Usage
from flip_reward.engines.http.wire import decode_completion, encode_request


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
