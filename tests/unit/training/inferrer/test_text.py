"""What is learned is, byte for byte and token for token, what scoring asks about and what generation is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from flip_reward.core.conversation import Group
from flip_reward.core.prompts import COMPLETION_PROMPTS, CompletionPrompt, load_completion_prompt
from flip_reward.engines.base import LogprobRequest, Request
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.huggingface.text import HfPromptTokenizer, find_stops
from flip_reward.errors import OptionError
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodReward
from flip_reward.rewards.flip import FlipOptions, FlipReward
from flip_reward.training.inferrer.text import IGNORED, InferrerTokenizer
from tests.hf_models import CHAT_TEMPLATE, TOKENIZERS, save_model

GROUPS = [
    Group.of("Name three fruits that grow on trees, please.", "Apples, pears and plums grow on trees."),
    Group.of("  Which fruit is yellow?\n", "<think>Hm.</think> A name.\n\nAnswer in one short sentence. "),
    Group.of("Wie heißt das? 水果 🍎", "Obst: Äpfel, Birnen und Pflaumen. {response} {instruction} <end> 苹果"),
    Group.of(
        [
            {"role": "user", "content": "Which fruit is yellow?"},
            {"role": "assistant", "content": "Pears."},
            {"role": "user", "content": "And which grow on trees?"},
        ],
        "Apples, pears and plums grow on trees.",
    ),
]


@dataclass(frozen=True)
class Setup:
    engine: TransformersEngine
    text: HfPromptTokenizer
    stops: tuple[int, ...]


@pytest.fixture(scope="module", params=TOKENIZERS)
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny", tokenizer=TOKENIZERS[request.param])
    engine = TransformersEngine(str(folder), dtype="float32", device="cpu")
    tokenizer = engine.loaded.tokenizer
    yield Setup(engine, HfPromptTokenizer(tokenizer, "tiny"), find_stops(engine.loaded.network, tokenizer))
    engine.close()


class Recorder:
    """Passes questions on, and remembers them."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine, self.model, self.identity = engine, engine.model, engine.identity
        self.asked: list[LogprobRequest] = []
        self.complete, self.aclose = engine.complete, engine.aclose

    async def logprobs(self, request: LogprobRequest):  # type: ignore[no-untyped-def]  # noqa: ANN201
        self.asked.append(request)
        return await self.engine.logprobs(request)


@pytest.mark.parametrize("name", COMPLETION_PROMPTS)
@pytest.mark.parametrize("group", GROUPS, ids=["plain", "spaces and thinking", "scripts", "earlier turns"])
def test_the_learned_tokens_are_the_scored_ones_and_the_end(setup: Setup, name: str, group: Group) -> None:
    frame = load_completion_prompt(name)
    learned = InferrerTokenizer(setup.text, frame, setup.stops).encode(group)
    assert learned is not None
    assert learned.tokens[-1] == setup.engine.loaded.tokenizer.eos_token_id

    recorder = Recorder(setup.engine)
    [score] = BackwardLikelihoodReward(recorder, prompt=frame).score_sync([group])[0]
    [asked] = recorder.asked
    assert InferrerTokenizer(setup.text, frame, setup.stops).request(group) == asked
    assert score.likelihood is not None
    assert score.likelihood.tokens == learned.learned - 1

    # The likelihood computed from the learned tokens and labels themselves is the one that scoring gives.
    assert learned.labels.count(IGNORED) == len(learned.tokens) - learned.learned
    with torch.inference_mode():
        logits = setup.engine.loaded.network(torch.tensor([learned.tokens])).logits[0]
    wanted = torch.tensor(learned.labels[1:-1])
    picked = logits[:-2].log_softmax(dim=-1)[torch.arange(len(wanted)), wanted.clamp(min=0)]
    assert float(picked[wanted != IGNORED].sum()) == pytest.approx(score.likelihood.log_probability, abs=1e-3)


@pytest.mark.parametrize(
    "name", [name for name in COMPLETION_PROMPTS if not load_completion_prompt(name).is_completion]
)
def test_the_prefix_is_what_generation_is_given(setup: Setup, name: str) -> None:
    for group in GROUPS:
        learned = InferrerTokenizer(setup.text, load_completion_prompt(name), setup.stops).encode(group)
        assert learned is not None
        [request] = FlipReward(setup.engine, FlipOptions(name)).render(group)
        assert isinstance(request, Request)
        given = setup.engine.text.encode(setup.engine.text.render(request.messages))
        assert learned.tokens[: -learned.learned] == given


def test_the_bytes_are_the_template_the_response_and_the_instruction(tmp_path: Path) -> None:
    engine = TransformersEngine(str(save_model(tmp_path / "model")), device="cpu")
    for name in COMPLETION_PROMPTS:
        frame = load_completion_prompt(name)
        learned = InferrerTokenizer(HfPromptTokenizer(engine.loaded.tokenizer, "tiny"), frame, (2,)).encode(GROUPS[0])
        assert learned is not None
        user = frame.template.user.replace("{response}", GROUPS[0].responses[0]).removesuffix("{instruction}")
        if not frame.is_completion:
            system = f"<|system|>{frame.template.system}<end>" if frame.template.system else ""
            user = f"{system}<|user|>{user}<end><|assistant|>"
        expected = f"{user}Name three fruits that grow on trees, please.<end>"
        assert engine.loaded.tokenizer.decode(learned.tokens) == expected
    engine.close()


def test_thinking_is_skipped_in_what_is_learned_too(tmp_path: Path) -> None:
    skipped = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    folder = save_model(tmp_path / "model", chat_template=CHAT_TEMPLATE + skipped)
    engine = TransformersEngine(str(folder), device="cpu", no_thinking=True)
    text = HfPromptTokenizer(engine.loaded.tokenizer, "tiny", no_thinking=True)
    learned = InferrerTokenizer(text, load_completion_prompt("tuned"), (2,)).encode(GROUPS[0])
    assert learned is not None
    [request] = FlipReward(engine, FlipOptions("tuned")).render(GROUPS[0])
    assert isinstance(request, Request)
    prompt = engine.text.render(request.messages)
    assert prompt.endswith("<think></think>")
    assert learned.tokens[: -learned.learned] == engine.text.encode(prompt)
    engine.close()


def test_a_response_without_an_answer(setup: Setup) -> None:
    inferrer = InferrerTokenizer(setup.text, load_completion_prompt(), setup.stops)
    assert inferrer.encode(Group.of("Name a fruit.", "<think>Hm")) is None


def test_the_end_is_the_one_that_the_chat_template_writes(setup: Setup) -> None:
    pad = setup.engine.loaded.tokenizer.pad_token_id
    other = (pad, setup.engine.loaded.tokenizer.eos_token_id)
    assert InferrerTokenizer(setup.text, load_completion_prompt("compact"), other).end == other[1]
    assert InferrerTokenizer(setup.text, load_completion_prompt("answer"), (pad,)).end == pad
    with pytest.raises(OptionError, match="tiny"):
        InferrerTokenizer(setup.text, load_completion_prompt("answer"), ())


def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    engine = TransformersEngine(str(save_model(tmp_path / "model", chat_template=None)), device="cpu")
    text = HfPromptTokenizer(engine.loaded.tokenizer, "tiny")
    with pytest.raises(OptionError, match="'compact'"):
        InferrerTokenizer(text, load_completion_prompt("compact"), (2,))
    learned = InferrerTokenizer(text, load_completion_prompt("answer"), (2,)).encode(GROUPS[0])
    assert learned is not None
    assert learned.tokens[-1] == 2


def test_a_chat_template_that_refuses(tmp_path: Path) -> None:
    template = "{{ raise_exception('only in verse') }}"
    engine = TransformersEngine(str(save_model(tmp_path / "model", chat_template=template)), device="cpu")
    frame: CompletionPrompt = load_completion_prompt("compact")
    with pytest.raises(OptionError, match="only in verse"):
        InferrerTokenizer(HfPromptTokenizer(engine.loaded.tokenizer, "tiny"), frame, (2,))
