"""One llama.cpp slot. Whether replies repeat is seen in log probabilities, bit for bit: texts hide much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import pytest

from flip_reward.core.conversation import Message
from flip_reward.core.score import Usage
from flip_reward.engines.base import LogprobRequest, Request, Sampling
from flip_reward.engines.files import locate_model
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, LlamaTokens, SlotOptions, ends_alone, join_chunks
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.errors import (
    ContextTooLongError,
    EngineServerError,
    MalformedCompletionError,
    RequestRefusedError,
)
from tests.gguf_models import save_gguf
from tests.hf_models import save_model

STORY = "The keeper climbed the stairs every evening, lit the lamp and wrote down which ships he had seen. "
READER, JUDGE = "You read a text and write the question that it answers.", "You read a text and say who wrote it."
REQUESTS = [
    Request((Message("system", system), Message("user", content)), Sampling(max_tokens=3))
    for system, content in (
        (READER, "Mix flour and milk."),
        (READER, "Mix flour and eggs, then fry."),
        (READER, STORY * 12),
        (JUDGE, "Mix flour and milk."),
    )
] + [
    Request((Message("user", content),), Sampling(max_tokens=3))
    for content in ("Mix flour and milk.", "Mix flour and eggs, then fry.", STORY)
]


class RecordingSlot(LlamaSlot):
    """Keeps the log probabilities of its latest reply."""

    def __init__(self, *, threads: int = 1, context_tokens: int = 512) -> None:
        options = SlotOptions(context_tokens, threads, {"logprobs": True})
        super().__init__(locate_model("embedded").path, options)
        self.logprobs: list[float] = []

    def stream(self, body: bytes, receive: Callable[[bytes], bool]) -> None:
        self.logprobs = []

        def record(chunk: bytes) -> bool:
            for choice in orjson.loads(chunk).get("choices", ()):
                self.logprobs += [token["logprob"] for token in (choice.get("logprobs") or {}).get("content", ())]
            return receive(chunk)

        super().stream(body, record)

    def measure(self, request: Request) -> tuple[float, ...]:
        """Return the log probabilities of the reply's tokens."""
        self.answer(request, Event())
        return tuple(self.logprobs)


@pytest.fixture(scope="module")
def alone() -> list[tuple[float, ...]]:
    """What each request gets when it is the first and only one."""
    return [RecordingSlot().measure(request) for request in REQUESTS]


@pytest.mark.slow
def test_what_was_asked_before_changes_no_bit(alone: list[tuple[float, ...]]) -> None:
    assert all(len(logprobs) == 3 for logprobs in alone)
    slot = RecordingSlot()
    assert [slot.measure(request) for request in REQUESTS] == alone
    assert [slot.measure(request) for request in REQUESTS[::-1]][::-1] == alone
    assert [slot.measure(REQUESTS[0]) for _ in range(3)] == [alone[0]] * 3


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit(alone: list[tuple[float, ...]]) -> None:
    slot = RecordingSlot(threads=2)
    assert [slot.measure(request) for request in REQUESTS[:3:2]] == alone[:3:2]


def split(tokenizer: GgufPromptTokenizer, prefix: str, continuation: str) -> LlamaTokens:
    return tokenizer.split(LogprobRequest((Message("user", prefix),), continuation))


@pytest.mark.slow
def test_what_was_scored_before_changes_no_bit_and_what_is_shared_is_not_read_again() -> None:
    path = locate_model("embedded").path
    tokenizer, options = GgufPromptTokenizer(path, {}), SlotOptions(1024, 1, {})
    questions = ("Who is it about?", "What did the keeper light?", "Welche Schiffe? 灯", "Name a lamp.")
    texts = [split(tokenizer, STORY * 6, question) for question in questions]
    texts += [split(tokenizer, STORY * count + "He slept.", "When did he sleep?") for count in (5, 6, 7)]
    longest = split(tokenizer, STORY * 40, "Why?").tokens
    # The last token of the first prefix is read alone; the others are read in several pieces.
    texts += [replace(texts[0], tokens=longest[:count] + texts[0].tokens[-texts[0].scored :]) for count in (513, 600)]
    alone = [LlamaSlot(path, options).score(text) for text in texts]
    slot = LlamaSlot(path, options)
    server = CountingServer(slot.server)
    slot.server = server
    assert [slot.score(text) for text in texts] == alone
    shared = sum(len(text.prefix) for text in texts[1:4])
    assert server.read < sum(len(text.prefix) for text in texts) - shared + 3 * 60
    assert [slot.score(text) for text in texts[::-1]][::-1] == alone
    slot.answer(REQUESTS[0], Event())
    assert slot.score(texts[1]) == alone[1]


class CountingServer:
    """Counts the tokens of prompts that a server reads."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.read = 0

    def handle_completions(self, body: dict[str, object]) -> Any:
        answer = self._server.handle_completions(body)
        self.read += answer["timings"]["prompt_n"]
        return answer

    def handle_chat_completions(self, body: bytes, receive: Callable[[bytes], bool]) -> None:
        self._server.handle_chat_completions(body, receive)


@pytest.mark.slow
def test_samples_are_those_of_one_request_each_where_a_token_is_read_alone() -> None:
    slot = RecordingSlot(context_tokens=1024)
    tokenizer = GgufPromptTokenizer(locate_model("embedded").path, {})

    def ask(words: int, samples: int = 1) -> Request:
        return Request(
            (Message("system", READER), Message("user", "lamp " * words)), Sampling(1.0, 3, seed=5), n=samples
        )

    kept = slot.answer(ask(400), Event()).usage.cached_tokens
    request = ask(400 + 513 - (len(tokenizer.encode(ask(400).messages)) - kept), samples=2)
    assert ends_alone(len(tokenizer.encode(request.messages)) - kept)
    slot.answer(request, Event())
    second = tuple(slot.logprobs)
    single = replace(request, n=1, sampling=replace(request.sampling, seed=6))
    assert RecordingSlot(context_tokens=1024).measure(single) == second


def test_a_reply_begins_as_likely_as_in_transformers(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    slot = LlamaSlot(save_gguf(model, tmp_path / "model.gguf"), SlotOptions(512, 1, {}, exact_cache=True))
    engine = TransformersEngine(str(model), dtype="float32", device="cpu")
    for content in ("Apples, pears and plums.", "Obst: Äpfel", STORY * 2):
        request = Request((Message("user", content),), Sampling(max_tokens=1), top_logprobs=10)
        ours, theirs = slot.answer(request, Event()), asyncio.run(engine.complete(request))
        values = [value for _, value in ours.top_logprobs]
        assert values == pytest.approx([value for _, value in theirs.top_logprobs], abs=2e-4)
        assert ours.top_logprobs[0][0] == theirs.top_logprobs[0][0]


def write_chunk(content: str | None, finish_reason: str | None = None) -> bytes:
    return orjson.dumps({"choices": [{"delta": {"content": content}, "finish_reason": finish_reason}]})


def write_error(code: int, kind: str) -> bytes:
    return orjson.dumps({"error": {"code": code, "type": kind, "message": "no"}})


def test_chunks_make_one_completion() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
    completion = join_chunks(
        [
            write_chunk(None),
            write_chunk("漢"),
            write_chunk(" b"),
            write_chunk(None, "stop"),
            orjson.dumps({"choices": [], "usage": usage}),
        ]
    )
    assert completion.text == "漢 b"
    assert completion.finish_reason == "stop"
    assert completion.usage == Usage(7, 3, 5)


@pytest.mark.parametrize("chunks", [[], [write_chunk("half of")]])
def test_a_reply_without_its_end_is_no_reply(chunks: list[bytes]) -> None:
    with pytest.raises(MalformedCompletionError):
        join_chunks(chunks)


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        (write_error(400, "exceed_context_size_error"), ContextTooLongError),
        (write_error(400, "invalid_request_error"), RequestRefusedError),
        (write_error(500, "server_error"), EngineServerError),
    ],
)
def test_an_error_is_raised_as_its_kind(chunk: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"llama\.cpp: no"):
        join_chunks([write_chunk("half of"), chunk])
