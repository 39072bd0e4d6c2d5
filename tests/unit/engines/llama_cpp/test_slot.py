"""One llama.cpp slot. Whether replies repeat is seen in log probabilities, bit for bit: texts hide much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from threading import Event

import orjson
import pytest

from flip_reward.core.conversation import Message
from flip_reward.core.score import Usage
from flip_reward.engines.base import Request, Sampling
from flip_reward.engines.files import locate_model
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions, join_chunks
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

    def __init__(self, *, threads: int = 1) -> None:
        super().__init__(locate_model("embedded").path, SlotOptions(512, threads, {"logprobs": True}))
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
