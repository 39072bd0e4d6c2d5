from __future__ import annotations

import json

import pytest

from flip_reward.engines.base import Completion
from flip_reward.engines.http.stream import read_body
from flip_reward.engines.http.wire import decode_completion

WHOLE = '{"choices": [{"message": {"content": "Hi, you"}, "finish_reason": "stop"}]}'


def stream(*chunks: object, end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()


def chunk(text: str | None, finish_reason: str | None = None, index: int = 0, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish_reason}], **fields}


@pytest.mark.parametrize("before", [": PROCESSING\n\n", "\n \n: one\n: two\n\n", ":\r\n\r\n"])
def test_comments_before_an_answer_are_left_out(before: str) -> None:
    assert read_body((before + WHOLE).encode()) == json.loads(WHOLE)


@pytest.mark.parametrize("before", ["", ": PROCESSING\n\n", "event: message\nid: 7\n"])
def test_a_streamed_reply_is_joined(before: str) -> None:
    body = stream(chunk("Hi, "), chunk("you"), chunk(None, "stop", usage={"prompt_tokens": 5}))
    completion = decode_completion(before.encode() + body)
    assert completion is not None
    assert (completion.text, completion.finish_reason, completion.usage.prompt_tokens) == ("Hi, you", "stop", 5)


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", ""])
def test_a_stream_that_does_not_say_how_it_ended_is_not_known_to_be_whole(end: str) -> None:
    assert decode_completion(stream(chunk("Hi, "), end=end)) == Completion("Hi, ", None)


def test_several_streamed_replies_are_kept_apart() -> None:
    body = stream(chunk("a"), chunk("b", index=1), chunk("A", "stop"), chunk("B", "length", index=1))
    assert decode_completion(body, n=2) == Completion("aA", others=(Completion("bB", "length"),))


def test_a_streamed_text_in_parts_loses_none_of_them() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]
    greeting = [{"type": "text", "text": "Hi, "}]
    lists = [{"choices": [{"delta": {"content": parts}}]} for parts in (thought, greeting)]
    body = stream(*lists, chunk("you", "stop"))
    assert decode_completion(body) == Completion("Hi, you")


def test_a_whole_reply_at_the_end_of_a_stream_does_not_double_it() -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "Hi, you"}, "finish_reason": "stop"}]}
    assert decode_completion(stream(chunk("Hi, "), chunk("you"), whole)) == Completion("Hi, you", "stop")


@pytest.mark.parametrize(
    "failure", [{"error": {"code": 502, "message": "lost"}}, {"choices": [{"error": {"code": 502}, "delta": {}}]}]
)
def test_an_error_in_a_stream_is_no_reply(failure: object) -> None:
    assert decode_completion(stream(chunk("Hi, "), failure)) is None


@pytest.mark.parametrize("body", [b"data: half", b"data: 5\n", b'data: {"choices": 5}\n', b": only a comment\n", b""])
def test_what_holds_no_completion_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of two kinds
        read_body(body)
