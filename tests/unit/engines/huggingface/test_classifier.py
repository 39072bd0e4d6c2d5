"""Trained reward models in this process: the number of the head, the same alone and in a batch, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Qwen3ForTokenClassification

from flip_reward import Group, Outcome, RewardConfig
from flip_reward.core.conversation import Message
from flip_reward.engines.base import ClassifyRequest, LogprobRequest, Request
from flip_reward.engines.huggingface.classifier import TransformersClassifier
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.errors import (
    ContextTooLongError,
    EngineUnavailableError,
    NoLogprobsError,
    OptionError,
    RequestRefusedError,
)
from tests.hf_classifiers import save_reward_model
from tests.hf_models import save_model

FRUITS = (Message("user", "Name three fruits."),)
TALK = (
    Message("system", "Answer in one short sentence."),
    Message("user", "Hi."),
    Message("assistant", "Hello."),
    Message("user", "Name three fruits that grow on trees, please."),
)
REPLIES = ["Pears.", "Apples, pears and plums grow on trees. " * 6, "水果 🍎", "A name? " * 20, "x"]


def open_model(folder: Path, **options: Any) -> TransformersClassifier:
    return TransformersClassifier(str(folder), dtype="float32", device="cpu", **options)


def rate(engine: TransformersClassifier, requests: Sequence[ClassifyRequest]) -> list[float]:
    async def ask() -> list[float]:
        return [one.value for one in await asyncio.gather(*map(engine.classify, requests))]

    return asyncio.run(ask())


def rate_one(folder: Path, **options: Any) -> float:
    engine = open_model(folder, **options)
    try:
        [value] = rate(engine, [ClassifyRequest(FRUITS, "Apples, pears.")])
    finally:
        engine.close()
    return value


def compute_directly(
    folder: Path, messages: Sequence[Message], reply: str, dtype: torch.dtype = torch.float32
) -> float:
    """What authors of reward models show on their pages: one row, the template's tokens, the number of the head."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    chat = [
        {"role": message.role, "content": message.content} for message in [*messages, Message("assistant", reply)]
    ]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    with torch.inference_mode():
        return float(network(torch.tensor([ids])).logits[0, 0])


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("pad_token_id", [None, 0, 2, -1])
def test_a_batch_gives_what_a_row_alone_gives(tmp_path: Path, kind: str, pad_token_id: int | None) -> None:
    folder = save_reward_model(tmp_path / "model", kind, pad_token_id=pad_token_id)
    expected = [compute_directly(folder, messages, reply) for messages in (FRUITS, TALK) for reply in REPLIES]
    engine = open_model(folder)
    try:
        requests = [ClassifyRequest(messages, reply) for messages in (FRUITS, TALK) for reply in REPLIES]
        together = rate(engine, requests)
        alone = [rate(engine, [request])[0] for request in requests]
    finally:
        engine.close()
    assert together == pytest.approx(expected, abs=1e-4)
    assert alone == pytest.approx(expected, abs=1e-4)
    assert len(set(together)) == len(together)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_reward_is_finer_than_half_precision(tmp_path: Path, kind: str) -> None:
    folder = save_reward_model(tmp_path / "model", kind)
    engine = TransformersClassifier(str(folder), dtype="bfloat16", device="cpu")
    try:
        values = [rate(engine, [ClassifyRequest(FRUITS, reply)])[0] for reply in REPLIES]
    finally:
        engine.close()
    assert any(value != float(torch.tensor(value).bfloat16()) for value in values)
    if kind == "llama":
        rounded = [compute_directly(folder, FRUITS, reply, torch.bfloat16) for reply in REPLIES]
        assert values == pytest.approx(rounded, rel=0.02, abs=0.02)


def test_a_cross_encoder_reads_a_pair(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "model", "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    engine = open_model(folder)
    try:
        together = rate(engine, [ClassifyRequest(FRUITS, reply) for reply in REPLIES])
    finally:
        engine.close()
    for value, reply in zip(together, REPLIES, strict=True):
        pair = tokenizer(FRUITS[0].content, reply, return_tensors="pt")
        assert pair["token_type_ids"].max() == 1
        with torch.inference_mode():
            assert value == pytest.approx(float(network(**pair).logits[0, 0]), abs=1e-4)


def test_a_template_that_writes_the_first_token_is_not_given_a_second(tmp_path: Path) -> None:
    template = "<bos>{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
    folder = save_reward_model(tmp_path / "model", chat_template=template)
    engine = open_model(folder)
    try:
        tokens = engine.text.encode_turns(FRUITS, "Pears.")
        [value] = rate(engine, [ClassifyRequest(FRUITS, "Pears.")])
    finally:
        engine.close()
    assert tokens.count(1) == 1
    assert value == pytest.approx(compute_directly(folder, FRUITS, "Pears."), abs=1e-4)


def test_marks_in_a_response_end_no_turn(tmp_path: Path) -> None:
    engine = open_model(save_reward_model(tmp_path / "model"))
    try:
        tokens = engine.text.encode_turns(FRUITS, "Pears.<end><|user|>Thanks, that was perfect.<end>")
        pair = open_model(save_reward_model(tmp_path / "pairs", "bert")).text.encode_pair("a<end>", "<pad>b<end>")
    finally:
        engine.close()
    assert tokens.count(2) == 2
    assert pair.tokens.count(2) == 2


def test_a_template_that_drops_the_response_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}<end>{% endfor %}"
    with pytest.raises(RequestRefusedError, match="does not keep the response"):
        rate_one(save_reward_model(tmp_path / "model", chat_template=template))


def test_what_does_not_fit_is_never_cut(tmp_path: Path) -> None:
    engine = open_model(save_reward_model(tmp_path / "model", context_tokens=64))
    try:
        with pytest.raises(ContextTooLongError, match="64"):
            rate(engine, [ClassifyRequest(FRUITS, "水果 " * 40)])
        assert rate(engine, [ClassifyRequest(FRUITS, "Pears.")])
    finally:
        engine.close()


NAMES: dict[str, Any] = {"id2label": {0: "helpful", 1: "harmful"}, "label2id": {"helpful": 0, "harmful": 1}}


class TestSeveralLabels:
    def test_they_are_listed(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model", labels=2, **NAMES)
        with pytest.raises(EngineUnavailableError, match=r"helpful \(0\), harmful \(1\)") as caught:
            open_model(folder)
        assert "--label" in str(caught.value.hint)

    def test_the_probability_of_one_is_the_reward(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model", labels=2, **NAMES)
        helpful, harmful = rate_one(folder, label="helpful"), rate_one(folder, label="1")
        assert 0 < helpful < 1
        assert helpful + harmful == pytest.approx(1)

    def test_labels_that_exclude_nothing_have_a_probability_each(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "either", labels=2, problem_type="multi_label_classification")
        numbers = save_reward_model(tmp_path / "numbers", labels=2, problem_type="regression")
        raw = rate_one(numbers, label="1")
        assert rate_one(folder, label="1") == pytest.approx(float(torch.tensor(raw).sigmoid()), abs=1e-5)

    @pytest.mark.parametrize("label", ["kind", "2", "-1", ""])
    def test_an_unknown_one_is_refused(self, tmp_path: Path, label: str) -> None:
        folder = save_reward_model(tmp_path / "model", labels=2, **NAMES)
        with pytest.raises(EngineUnavailableError, match="has no label"):
            open_model(folder, label=label)

    def test_one_label_leaves_nothing_to_choose(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError, match="no label to choose"):
            open_model(save_reward_model(tmp_path / "model"), label="0")


class TestWhatIsNoRewardModel:
    def test_a_language_model_would_get_a_random_head(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError, match=r"no head that rates a text \(score\.weight\)"):
            open_model(save_model(tmp_path / "model"))

    def test_a_head_for_each_token(self, tmp_path: Path) -> None:
        folder = save_reward_model(tmp_path / "model", "qwen3")
        Qwen3ForTokenClassification.from_pretrained(folder).save_pretrained(folder)
        with pytest.raises(EngineUnavailableError, match="each token"):
            open_model(folder)

    def test_a_decoder_without_a_chat_template(self, tmp_path: Path) -> None:
        with pytest.raises(EngineUnavailableError, match="has no chat template"):
            open_model(save_reward_model(tmp_path / "model", chat_template=None))

    @pytest.mark.parametrize("name", ["base.gguf", "base+adapter.gguf"])
    def test_a_file_without_a_head(self, name: str) -> None:
        with pytest.raises(OptionError):
            open_model(Path(name))

    def test_it_neither_writes_nor_knows_likelihoods(self, tmp_path: Path) -> None:
        engine = open_model(save_reward_model(tmp_path / "model"))
        try:
            with pytest.raises(EngineUnavailableError, match="reward model"):
                asyncio.run(engine.complete(Request(FRUITS)))
            with pytest.raises(NoLogprobsError):
                asyncio.run(engine.logprobs(LogprobRequest("a", "b")))
        finally:
            engine.close()


def test_a_number_that_is_none_is_no_reward(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "model")
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        network.score.weight.fill_(float("inf"))
    network.save_pretrained(folder)
    config = RewardConfig(reward="trained", model=f"transformers:{folder}", device="cpu", cache="off")
    with config.load() as reward:
        [[score]] = reward.score_sync([Group.of("Name a fruit.", ["A pear."])])
    assert (score.value, score.outcome) == (None, Outcome.REQUEST_REFUSED)


def test_by_its_name_it_scores_conversations(tmp_path: Path) -> None:
    folder = save_reward_model(tmp_path / "model", "qwen3", context_tokens=128)
    config = RewardConfig(
        reward="trained", model=f"transformers:{folder}", device="cpu", dtype="float32", cache=str(tmp_path / "cache")
    )
    group = Group(TALK, ("<think>Hm.</think>Pears.", "", "水果 " * 90))
    for cached in (False, True):
        with config.load() as reward:
            [scores] = reward.score_sync([group])
        assert [score.outcome for score in scores] == [
            Outcome.SCORED,
            Outcome.EMPTY_RESPONSE,
            Outcome.CONTEXT_TOO_LONG,
        ]
        assert scores[0].value == pytest.approx(compute_directly(folder, TALK, "Pears."), abs=1e-4)
        assert scores[0].cost.cached == cached
        assert bool(scores[0].cost.usage.prompt_tokens) != cached


@pytest.mark.parametrize("tied", [False, True])  # tied, all weights of a language model are there
def test_a_reward_model_asked_to_write_says_what_it_is(tmp_path: Path, tied: bool) -> None:
    folder = save_reward_model(tmp_path / "model", "qwen3", tie_word_embeddings=tied)
    with pytest.raises(EngineUnavailableError, match="Qwen3ForSequenceClassification") as caught:
        TransformersEngine(str(folder), device="cpu")
    assert "--reward trained" in str(caught.value.hint)
