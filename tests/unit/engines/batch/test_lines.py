"""The lines of a batch, as OpenAI and vLLM write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.conversation import Message
from flip_reward.engines.base import Request, Sampling
from flip_reward.engines.batch.lines import (
    BatchLine,
    LinesRead,
    ReplyLine,
    RowRequests,
    current_row,
    make_key,
    read_replies,
    short_key,
)

KEY = "0123456789abcdef" * 2 + "01234567"
GREEDY = Request((Message("user", "Hi."),))
DRAWN = Request((Message("user", "Hi."),), Sampling(temperature=1.0))


def test_a_request_is_a_valid_line_of_the_format() -> None:
    line = BatchLine(KEY, b'{"model":"m","messages":[]}').to_line()
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "custom_id": KEY,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": []},
    }


@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        (
            {"response": {"status_code": 200, "request_id": "r", "body": {"choices": []}}, "error": None},
            200,
            "choices",
        ),
        ({"error": None, "response": {"body": {"choices": []}, "status_code": 200}, "id": "x"}, 200, "choices"),
        ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, 400, "no"),
        # vLLM: what failed has no body, and its 400 stands for crashes as well
        ({"response": {"status_code": 400, "body": None}, "error": "the engine is dead"}, 500, "dead"),
        ({"response": {"status_code": 500}, "error": {"error": {"message": "dead", "code": 500}}}, 500, "dead"),
        ({"response": {"status_code": 404, "body": None}, "error": {"message": "gone"}}, 404, "gone"),
        ({"response": {"status_code": 502, "body": "Bad Gateway"}}, 502, "Bad Gateway"),
        ({"response": {"status_code": 502, "body": [10**30]}}, 502, "1e+30"),
    ],
)
def test_a_response_is_read_in_any_form(fields: dict[str, Any], status: int, body: str) -> None:
    reply = ReplyLine.from_line(json.dumps({**fields, "custom_id": KEY}).encode())
    assert (reply.key, reply.status, reply.error) == (KEY, status, None)
    assert body in reply.body.decode()
    assert ReplyLine.from_line(reply.to_line()) == reply


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response": None, "error": {"code": "batch_expired", "message": "too late"}}, "too late"),
        ({"error": {"code": "batch_cancelled", "message": None}}, "batch_cancelled"),
        ({"response": None, "error": "lost"}, "lost"),
        ({"response": {"status_code": 200, "body": None}, "error": None}, "no reason"),
        ({}, "no reason"),
    ],
)
def test_what_was_never_answered_says_why(fields: dict[str, Any], said: str) -> None:
    reply = ReplyLine.from_line(json.dumps({**fields, "custom_id": KEY}).encode())
    assert reply.status is None
    assert said in str(reply.error)
    assert ReplyLine.from_line(reply.to_line()) == reply


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'"custom_id"', b"null", b'{"custom_id": 3}', b'{"response": null}', b"\xff\xfe",
     b"[" * 10_000, b'{"custom_id": "a", "response": "b"}', b'{"custom_id": "a", "response": [1]}'],
)  # fmt: skip
def test_anything_else_is_no_line(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ReplyLine.from_line(line)


@given(st.text(), st.integers())
def test_texts_and_numbers_survive(text: str, number: int) -> None:
    line = json.dumps({"custom_id": KEY, "response": {"status_code": 200, "body": {"text": text, "n": number}}})
    reply = ReplyLine.from_line(ReplyLine.from_line(line.encode()).to_line())
    assert reply.to_line().count(b"\n") == 1
    assert json.loads(reply.body)["text"] == text


def test_what_a_server_streams_or_prints_over_several_lines_is_kept_in_one() -> None:
    streamed = ReplyLine(KEY, 200, b'data: {"choices": []}\n\ndata: [DONE]\n')
    printed = ReplyLine(KEY, 200, b'{\n "choices": []\n}')
    assert ReplyLine.from_line(streamed.to_line()) == streamed
    assert json.loads(ReplyLine.from_line(printed.to_line()).body) == json.loads(printed.body)
    assert printed.to_line().count(b"\n") == streamed.to_line().count(b"\n") == 1


def test_half_a_surrogate_pair_is_no_reason_to_lose_a_reply() -> None:
    line = rb'{"custom_id":"%s","response":{"status_code":200,"body":{"text":"Hi \ud83d"}}}' % KEY.encode()
    reply = ReplyLine.from_line(ReplyLine.from_line(line).to_line())
    assert json.loads(reply.body) == {"text": "Hi \ufffd"}


def test_a_greedy_request_has_one_key_and_each_drawn_one_its_own() -> None:
    keys = set()
    for row in (0, 1):
        token = current_row.set(RowRequests(row))
        keys |= {make_key(b"{}", DRAWN), make_key(b"{}", DRAWN)}
        assert make_key(b"{}", GREEDY) == make_key(b"{}", GREEDY)
        current_row.reset(token)
    assert len(keys) == 4
    current_row.set(RowRequests(1))
    assert make_key(b"{}", DRAWN) in keys  # the next pass finds it again


def test_keys_fit_every_provider() -> None:
    key = make_key(b"{}", GREEDY)
    assert len(key) <= 64
    assert short_key(key) == int(key[:16], 16)


@pytest.mark.parametrize("key", ["", "request-1", KEY[:-1], KEY.upper(), KEY[:-1] + "\u0661"])
def test_a_key_of_somebody_else_is_none(key: str) -> None:
    assert short_key(key) is None


def test_a_file_is_read_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    path, good = tmp_path / "replies.jsonl", ReplyLine(KEY, 200, b'{"choices":[]}')
    path.write_bytes(good.to_line() + b"\n  \nnot JSON\n" + good.to_line() + good.to_line()[:50])
    read = LinesRead()
    assert list(read_replies(path, read)) == [good, good]
    assert read == LinesRead(damaged=1, unfinished=True)
    path.write_bytes(good.to_line().rstrip())  # whole, without a line break
    assert list(read_replies(path, LinesRead())) == [good]
