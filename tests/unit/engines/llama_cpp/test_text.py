"""The tokens that GGUF models read: those that llama.cpp generates from, and that transformers reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from flip_reward.core.conversation import Message
from flip_reward.engines.base import LogprobRequest, Request, Sampling
from flip_reward.engines.huggingface.text import HfPromptTokenizer
from flip_reward.engines.llama_cpp.engine import EmbeddedEngine
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.errors import EngineUnavailableError
from tests.gguf_models import save_gguf
from tests.hf_models import CHAT_TEMPLATE, save_model, train_byte_level, train_byte_level_trimmed

pytest.importorskip("xllamacpp")

BEGINNING = 1
TEXTS = (
    "Apples, pears and plums grow on trees.",
    "Obst: Äpfel, Birnen und Pflaumen. 水果 苹果 🍎",
    "<|user|>Answer in one short sentence.<end><bos>",
    "null \x00 and \ud800 half a pair",
)
written = pytest.mark.parametrize("written", [False, True], ids=["", "the template writes it"])
added = pytest.mark.parametrize("added", [False, True], ids=["", "the tokenizer adds it"])


def save(folder: Path, *, written: bool, added: bool) -> Path:
    return save_model(
        folder / "model",
        tokenizer=train_byte_level_trimmed if added else train_byte_level,
        chat_template="{{ bos_token }}" * written + CHAT_TEMPLATE,
    )


@written
@added
def test_a_text_begins_alike_for_every_question(tmp_path: Path, *, written: bool, added: bool) -> None:
    model = save(tmp_path, written=written, added=added)
    gguf = save_gguf(model, tmp_path / "tiny.gguf", adds_bos=added)
    ours, theirs = GgufPromptTokenizer(gguf, {}), HfPromptTokenizer(AutoTokenizer.from_pretrained(model), "tiny")
    llama = EmbeddedEngine(gguf, slots=1, context_tokens=512)
    for text in TEXTS:
        messages = (Message("user", text),)
        prompt = ours.encode(messages)
        reply = asyncio.run(llama.complete(Request(messages, Sampling(max_tokens=1))))
        assert reply.usage.prompt_tokens == len(prompt)
        question = LogprobRequest(messages, "Name three fruits.")
        scored = ours.split(question)
        assert scored.tokens[: len(prompt)] == prompt
        assert scored.tokens.count(BEGINNING) == (written or added)
        if written or not added:  # transformers leaves it to the template
            assert scored.tokens == theirs.split(question).tokens
            assert scored.scored == theirs.split(question).scored
        unmarked = LogprobRequest(text, " Name three fruits.")
        assert ours.split(unmarked).tokens == theirs.split(unmarked).tokens
        assert ours.split(unmarked).scored == theirs.split(unmarked).scored
    llama.close()


def test_likelihoods_are_those_of_transformers_where_a_token_comes_first(tmp_path: Path) -> None:
    from flip_reward.engines.huggingface.engine import TransformersEngine

    model = save(tmp_path, written=True, added=True)
    llama = EmbeddedEngine(save_gguf(model, tmp_path / "tiny.gguf", adds_bos=True), slots=1, context_tokens=512)
    transformers = TransformersEngine(str(model), dtype="float32", device="cpu")
    question = LogprobRequest((Message("user", TEXTS[0]),), "Name three fruits.")
    ours, theirs = (asyncio.run(engine.logprobs(question)) for engine in (llama, transformers))
    assert ours.usage == theirs.usage
    assert ours.values == pytest.approx(theirs.values, abs=0.05)
    assert llama.identity.endswith("/bos")
    llama.close()
    transformers.close()


def test_no_text_has_a_token_after_it(tmp_path: Path) -> None:
    model = save(tmp_path, written=False, added=False)
    plain = save_gguf(model, tmp_path / "plain.gguf")
    ended = save_gguf(model, tmp_path / "ended.gguf", adds_eos=True)
    ours, theirs = GgufPromptTokenizer(ended, {}), GgufPromptTokenizer(plain, {})
    messages = (Message("user", TEXTS[0]),)
    assert ours.encode(messages) == theirs.encode(messages)
    for prefix in (messages, TEXTS[0]):
        question = LogprobRequest(prefix, " Name three fruits.")
        assert ours.split(question) == theirs.split(question)


def test_a_model_whose_prompts_llama_cpp_would_end_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path, written=False, added=False)
    llama = EmbeddedEngine(save_gguf(model, tmp_path / "ended.gguf", adds_eos=True), slots=1, context_tokens=512)
    with pytest.raises(EngineUnavailableError, match="add_eos_token"):
        asyncio.run(llama.complete(Request((Message("user", "Hi"),))))
    llama.close()
