"""Tokens that a model in this process reads for several questions about a response, beside asking one by one.

Counted are tokens, so the figures are the same on every machine. One by one, each question is asked alone, and those
about other responses stand between: nothing of a response is left from the question before. Ours are asked together,
for 4 responses of the examples.

- 4 samples of each response, and how many of these differ from one sample each with the same seed.
- The likelihood of all 4 instructions after each response, and by how much it differs at most.
- FLIP and backward likelihood of each response, with the same template.
- The copy guard: each response repeats its instruction first, and is read with and without it.

llama.cpp tells how many tokens of a prompt it read. Of transformers what the model is given is counted, padding
included, except for single tokens, most of which are new ones.

Run `python bench/prefix_reuse.py` (needs the extras "local" and "hf" and the default model).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from threading import Event
from typing import Any, TypeAlias

import orjson

from figures import Figure, report
from flip_reward import BackwardLikelihoodReward, FlipOptions, FlipReward, Group, RewardModel, Sampling, Score
from flip_reward.core.copying import Copying
from flip_reward.data.groups import read_sources
from flip_reward.data.readers import open_input
from flip_reward.data.rows import InvalidRow
from flip_reward.data.shapes import Shape
from flip_reward.engines.base import Completion, Engine, LogprobRequest, Request, TokenLogprobs
from flip_reward.engines.files import locate_model
from flip_reward.engines.huggingface.engine import TransformersEngine
from flip_reward.engines.llama_cpp.slot import LlamaSlot, SlotOptions
from flip_reward.engines.llama_cpp.text import GgufPromptTokenizer
from flip_reward.rewards.backward_likelihood import BackwardLikelihoodOptions

EXAMPLES = Path(__file__).parents[1] / "examples/responses.jsonl"
SAMPLES, DRAWN_TOKENS = 4, 16
RESPONSES = 4
Question: TypeAlias = tuple[RewardModel, Group]


class CountingServer:
    """A llama.cpp server that counts the tokens of prompts that it reads."""

    def __init__(self, server: Any) -> None:  # noqa: ANN401 - xllamacpp has no types
        self._server = server
        self.read = 0

    def handle_chat_completions(self, body: bytes, receive: Callable[[bytes], bool]) -> None:
        def count(chunk: bytes) -> bool:
            self.read += orjson.loads(chunk).get("timings", {}).get("prompt_n", 0)
            return receive(chunk)

        self._server.handle_chat_completions(body, count)

    def handle_completions(self, body: dict[str, object]) -> dict[str, Any]:
        answer: dict[str, Any] = self._server.handle_completions(body)
        self.read += answer["timings"]["prompt_n"]
        return answer


class OneSlot:
    """The embedded engine with one slot, whose server counts."""

    def __init__(self) -> None:
        path = locate_model("embedded").path
        self.model = self.identity = "llama.cpp"
        self._slot = LlamaSlot(path, SlotOptions(2048, 1, {}))
        self._tokenizer = GgufPromptTokenizer(path, {})
        self.server = CountingServer(self._slot.server)
        self._slot.server = self.server

    async def complete(self, request: Request) -> Completion:
        return self._slot.answer(request, Event())

    async def logprobs(self, request: LogprobRequest) -> TokenLogprobs:
        return self._slot.score(self._tokenizer.split(request))

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Reader:
    """An engine, and how many tokens its model has read."""

    name: str
    engine: Engine
    count: Callable[[], int]


def open_llama() -> Reader:
    engine = OneSlot()
    return Reader("llama.cpp", engine, lambda: engine.server.read)


def open_transformers() -> Reader:
    engine = TransformersEngine("smollm2-135m", dtype="float32")
    given: list[int] = []
    engine.loaded.network.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: given.append(inputs[0].numel() if inputs[0].shape[1] > 1 else 0)
    )
    return Reader("transformers", engine, lambda: sum(given))


def read_groups() -> list[Group]:
    rows = read_sources([open_input(str(EXAMPLES))], Shape())
    groups = [row.group for row in rows if not isinstance(row, InvalidRow)]
    longest = [replace(group, responses=(max(group.responses, key=len),)) for group in groups]
    return longest[:RESPONSES]


def ask_together(questions: Sequence[Question]) -> list[Score]:
    async def ask() -> list[Score]:
        scored = await asyncio.gather(*(reward.score_group(group) for reward, group in questions))
        return [score for one in scored for score in one.scores]

    return asyncio.run(ask())


def ask_one_by_one(questions: Sequence[Question]) -> list[Score]:
    return [score for question in questions for score in ask_together([question])]


@dataclass(frozen=True)
class Asked:
    """The scores of questions, and the tokens that were read for them."""

    scores: list[Score]
    tokens: int


def ask(reader: Reader, how: Callable[[Sequence[Question]], list[Score]], questions: list[Question]) -> Asked:
    before = reader.count()
    return Asked(how(questions), reader.count() - before)


def compare(name: str, ours: Asked, theirs: Asked) -> Figure:
    return Figure(
        name, ours.tokens, "tokens", theirs.tokens, round(theirs.tokens / ours.tokens, 2), "one by one"
    )  # fmt: skip


def compare_samples(reader: Reader, groups: Sequence[Group]) -> Iterator[Figure]:
    def draw(samples: int, seed: int) -> FlipReward:
        sampling = Sampling(temperature=0.7, max_tokens=DRAWN_TOKENS, seed=seed)
        return FlipReward(reader.engine, FlipOptions("compact", sampling=sampling, samples=samples))

    alone: list[Question] = [(draw(1, seed), group) for seed in range(SAMPLES) for group in groups]
    ours = ask(reader, ask_together, [(draw(SAMPLES, 0), group) for group in groups])
    theirs = ask(reader, ask_one_by_one, alone)
    yield compare(f"{reader.name}: {SAMPLES} samples", ours, theirs)
    drawn = [score.samples[number].raw_reply for number in range(SAMPLES) for score in ours.scores]
    differing = sum(one != score.raw_reply for one, score in zip(drawn, theirs.scores, strict=True))
    yield Figure(f"{reader.name}: samples that differ", differing, f"of {len(drawn)}")


def compare_instructions(reader: Reader, groups: Sequence[Group]) -> Iterator[Figure]:
    likelihood = BackwardLikelihoodReward(reader.engine)
    asked: list[Question] = [
        (likelihood, replace(group, messages=other.messages)) for group, other in product(groups, groups)
    ]
    by_instruction = sorted(range(len(asked)), key=lambda number: number % len(groups))
    ours = ask(reader, ask_together, asked)
    theirs = ask(reader, ask_one_by_one, [asked[number] for number in by_instruction])
    yield compare(f"{reader.name}: likelihood of {len(groups)} instructions", ours, theirs)
    apart = max(
        abs((ours.scores[number].value or 0) - (score.value or 0))
        for number, score in zip(by_instruction, theirs.scores, strict=True)
    )
    yield Figure(f"{reader.name}: likelihoods differ by at most", apart, "nats a token")


def compare_rewards(reader: Reader, groups: Sequence[Group]) -> Iterator[Figure]:
    rewards: tuple[RewardModel, ...] = (
        FlipReward(reader.engine, FlipOptions("compact", sampling=Sampling(max_tokens=1))),
        BackwardLikelihoodReward(reader.engine, BackwardLikelihoodOptions("compact")),
    )
    ours = ask(reader, ask_together, [(reward, group) for group in groups for reward in rewards])
    theirs = ask(reader, ask_one_by_one, [(reward, group) for reward in rewards for group in groups])
    yield compare(f"{reader.name}: FLIP and likelihood", ours, theirs)


def compare_guard(reader: Reader, groups: Sequence[Group]) -> Iterator[Figure]:
    sampling = Sampling(max_tokens=1)
    plain = FlipReward(reader.engine, FlipOptions("compact", sampling=sampling))
    guarded = FlipReward(reader.engine, FlipOptions("compact", sampling=sampling, copy_guard=True))
    copying, masked = [], []
    for group in groups:
        instruction = group.messages[-1].content
        copying.append(replace(group, responses=(f"{instruction} {group.responses[0]}",)))
        rest = Copying.of(instruction).mask(copying[-1].responses[0])
        masked.append(replace(group, responses=(rest or "",)))
    ours = ask(reader, ask_together, [(guarded, group) for group in copying])
    theirs = ask(reader, ask_one_by_one, [(plain, group) for group in (*copying, *masked)])
    yield compare(f"{reader.name}: copy guard", ours, theirs)


def measure() -> Iterator[Figure]:
    """Count what both engines read."""
    groups = read_groups()
    for open_reader in (open_llama, open_transformers):
        reader = open_reader()
        for part in (compare_samples, compare_instructions, compare_rewards, compare_guard):
            yield from part(reader, groups)


if __name__ == "__main__":
    report(measure, "Tokens read for several questions about a response, beside one by one.")
