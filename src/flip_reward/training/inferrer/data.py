"""The data of a tuning: pairs that are not in evaluations and not repeated, weighted, some held out.

`TuningInputs` opens the sources of a recipe before the model is loaded, and reads them with the model's tokenizer.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

from flip_reward.core.prompts import CompletionPrompt
from flip_reward.data.readers import open_input
from flip_reward.data.rows import Input
from flip_reward.data.shapes import check_columns
from flip_reward.engines.huggingface.loading import HfModel
from flip_reward.engines.huggingface.text import HfPromptTokenizer, find_stops
from flip_reward.engines.lora.adapter import PeftAdapter, find_peft_adapter
from flip_reward.errors import DataError, OptionError, RequestRefusedError
from flip_reward.evaluation.benchmarks.catalogue import BENCHMARKS
from flip_reward.scoring.manifest import InputIdentity
from flip_reward.training.common.folder import SourceSummary
from flip_reward.training.common.progress import TrainingObserver
from flip_reward.training.inferrer.near_duplicates import NearIndex, Words
from flip_reward.training.inferrer.pairs import (
    Removal,
    SourcePairs,
    TrainingPair,
    read_evaluation_prompts,
    read_pairs,
)
from flip_reward.training.inferrer.recipe import InferrerRecipe
from flip_reward.training.inferrer.text import InferrerTokenizer, TuningText

_Item = TypeVar("_Item")

_SWAPPED = 0.5
"""Responses with less than this part of their prompts' words look like prompts."""


@dataclass(slots=True)
class SourceCounts:
    """How the rows of one source were used."""

    name: str
    rows: int
    removed: Counter[Removal]
    held_out: int = 0
    kept: int = 0
    seen: int = 0
    """How many responses an epoch has, with their repetitions."""

    def sum_up(self) -> SourceSummary:
        """Return the counts for a manifest."""
        return SourceSummary(
            name=self.name,
            rows=self.rows,
            removed={reason.value: count for reason, count in sorted(self.removed.items())},
            held_out=self.held_out,
            kept=self.kept,
            seen_in_an_epoch=self.seen,
        )


@dataclass(frozen=True, slots=True)
class TuningData:
    """The texts to learn from."""

    train: list[TuningText]
    """One epoch, with every text as often as its source's weight says."""
    held_out: list[TuningText]
    """Texts of prompts that are not in `train`."""
    counts: list[SourceCounts]
    warnings: list[str] = field(default_factory=list)
    """For the user."""


def prepare_data(
    sources: Sequence[SourcePairs],
    evaluated: Iterable[str],
    recipe: InferrerRecipe,
    encode: Callable[[TrainingPair], TuningText | Removal],
) -> TuningData:
    """Choose, split and mix pairs. `encode` makes tokens of a pair, or says why it cannot."""
    warnings = [warning for source in sources if (warning := warn_of_swapped_columns(source))]
    counts = [SourceCounts(source.name, source.rows, Counter(source.removed)) for source in sources]
    tagged = [(number, pair) for number, source in enumerate(sources) for pair in source.pairs]
    tagged = _without(tagged, find_evaluated([pair for _, pair in tagged], evaluated), counts)
    repeated = find_duplicates([pair for _, pair in tagged], near=not recipe.keep_near_duplicates)
    tagged = _without(tagged, repeated, counts)
    texts: list[tuple[int, TrainingPair, TuningText]] = []
    for number, pair in tagged:
        text = encode(pair)
        if isinstance(text, TuningText) and (
            len(text.tokens) > recipe.max_tokens or text.learned - 1 > recipe.max_instruction_tokens
        ):
            text = Removal.TOO_LONG
        if isinstance(text, Removal):
            counts[number].removed[text] += 1
        else:
            texts.append((number, pair, text))
    return _split_and_mix(texts, sources, counts, recipe, warnings)


def _split_and_mix(
    texts: Sequence[tuple[int, TrainingPair, TuningText]],
    sources: Sequence[SourcePairs],
    counts: list[SourceCounts],
    recipe: InferrerRecipe,
    warnings: list[str],
) -> TuningData:
    held_out: list[TuningText] = []
    kept: list[tuple[int, TuningText]] = []
    for number, pair, text in texts:
        if is_held_out(pair.instruction_words, recipe.held_out, seed=recipe.seed):
            held_out.append(text)
            counts[number].held_out += 1
        else:
            kept.append((number, text))
    kept = draw(kept, recipe.rows, seed=recipe.seed)
    train: list[TuningText] = []
    for number, source in enumerate(sources):
        own = [text for owner, text in kept if owner == number]
        seen = repeat(own, source.weight, seed=recipe.seed)
        counts[number].kept, counts[number].seen = len(own), len(seen)
        train += seen
    if not train:
        raise DataError("no row is left to learn from", hint=_sum_up(counts))
    return TuningData(train, held_out, counts, warnings)


def find_evaluated(pairs: Sequence[TrainingPair], evaluated: Iterable[str]) -> list[Removal | None]:
    """Tell for each pair whether its instruction is one of an evaluation, or near to one.

    An instruction that contains a prompt, or is contained in one, is near to it.
    """
    prompts = [words for words in dict.fromkeys(map(Words.of, evaluated)) if words.sequence]
    exact = {prompt.sequence for prompt in prompts}
    index = NearIndex([*prompts, *(pair.instruction_words for pair in pairs)])
    for prompt in prompts:
        index.add(prompt)
    known: dict[Words, Removal | None] = {}
    reasons: list[Removal | None] = []
    for pair in pairs:
        words = pair.instruction_words
        if words not in known:
            near = Removal.NEAR_EVALUATED if index.has_near(words) else None
            known[words] = Removal.EVALUATED if words.sequence in exact else near
        reasons.append(known[words])
    return reasons


def find_duplicates(pairs: Sequence[TrainingPair], *, near: bool = True) -> list[Removal | None]:
    """Tell for each pair whether one before it has the same words, or with `near` nearly the same."""
    seen: set[tuple[str, ...]] = set()
    index = NearIndex([pair.words for pair in pairs] if near else [], contained=False)
    reasons: list[Removal | None] = []
    for pair in pairs:
        words = pair.words
        if words.sequence in seen:
            reasons.append(Removal.DUPLICATE)
        elif near and index.has_near(words):
            reasons.append(Removal.NEAR_DUPLICATE)
        else:
            reasons.append(None)
            seen.add(words.sequence)
            if near:
                index.add(words)
    return reasons


def is_held_out(instruction: Words, part: float, *, seed: int) -> bool:
    """Whether an instruction is held out, which does not depend on the other data.

    Example:
        >>> instructions = [Words.of(f"Name {n} fruits") for n in range(1000)]
        >>> 150 < sum(is_held_out(words, 0.2, seed=0) for words in instructions) < 250
        True
    """
    digest = sha256(f"{seed} {' '.join(instruction.sequence)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < part * 2**64


def draw(items: Sequence[_Item], count: int | None, *, seed: int) -> list[_Item]:
    """Draw some items, in their order; all of them for None. A smaller count draws a part of a larger one's."""
    if count is None or count >= len(items):
        return list(items)
    places = list(range(len(items)))
    random.Random(f"draw {seed}").shuffle(places)  # noqa: S311 - not for secrets
    return [items[place] for place in sorted(places[:count])]


def repeat(items: Sequence[_Item], weight: float, *, seed: int) -> list[_Item]:
    """Repeat items as often as `weight` says; a fraction of them is drawn."""
    whole = math.floor(weight)
    rest = draw(items, round((weight - whole) * len(items)), seed=seed) if weight > whole else []
    return [*list(items) * whole, *rest]


def warn_of_swapped_columns(source: SourcePairs) -> str | None:
    """Warn where responses are far shorter than prompts, as with swapped columns."""
    if not source.pairs:
        return None
    prompts = sum(len(pair.instruction.split()) for pair in source.pairs) / len(source.pairs)
    responses = sum(len(pair.response.split()) for pair in source.pairs) / len(source.pairs)
    if responses >= _SWAPPED * prompts:
        return None
    return (
        f"{source.name}: its responses have {responses:.0f} words on average and its prompts {prompts:.0f}; "
        "are the columns swapped?"
    )


def _without(
    tagged: Sequence[tuple[int, TrainingPair]], reasons: Collection[Removal | None], counts: Sequence[SourceCounts]
) -> list[tuple[int, TrainingPair]]:
    left: list[tuple[int, TrainingPair]] = []
    for (number, pair), reason in zip(tagged, reasons, strict=True):
        if reason is None:
            left.append((number, pair))
        else:
            counts[number].removed[reason] += 1
    return left


def _sum_up(counts: Iterable[SourceCounts]) -> str:
    total: Counter[Removal] = Counter()
    for one in counts:
        total.update(one.removed)
    return "left out: " + (", ".join(f"{count} {reason}" for reason, count in total.items()) or "none")


@dataclass(frozen=True, slots=True)
class TuningInputs:
    """The files, data sets and adapter that a recipe names."""

    prompt: CompletionPrompt
    start: PeftAdapter | None
    """The adapter to start from."""
    data: Sequence[Input]
    excluded: Sequence[str]
    """Files of prompts, or benchmarks by name, that are kept out."""
    identities: Sequence[InputIdentity]
    """The names and hashes of all of them."""

    @classmethod
    def open(cls, recipe: InferrerRecipe) -> TuningInputs:
        """Find everything, and read nothing of it yet."""
        data = [open_input(recipe.locate(one.source), encoding=one.encoding) for one in recipe.data]
        excluded = [name if name in BENCHMARKS else recipe.locate(name) for name in recipe.exclude]
        files = [open_input(name) for name in excluded if name not in BENCHMARKS]
        for one in recipe.data:
            check_columns(one.columns)
        identities = [InputIdentity(name=one.name, fingerprint=one.fingerprint()) for one in [*data, *files]]
        identities += [InputIdentity(name=name, fingerprint=name) for name in excluded if name in BENCHMARKS]
        return cls(recipe.load_completion_prompt(), _find_start(recipe), data, excluded, identities)

    def read_evaluated(self) -> list[str]:
        """Read the prompts that are kept out."""
        return [prompt for source in self.excluded for prompt in read_evaluation_prompts(source)]

    def prepare(
        self, recipe: InferrerRecipe, loaded: HfModel, evaluated: Sequence[str], observer: TrainingObserver
    ) -> TuningData:
        """Read the pairs as texts of a model, without prompts of evaluations; the observer gets the warnings."""
        model_text = HfPromptTokenizer(loaded.tokenizer, loaded.name, recipe.no_thinking)
        text = InferrerTokenizer(model_text, self.prompt, find_stops(loaded.network, loaded.tokenizer))
        fitting = recipe.model_copy(update={"max_tokens": min(recipe.max_tokens, loaded.context_tokens)})
        data = prepare_data(self._read(recipe, observer), evaluated, fitting, _encoder(text))
        for warning in data.warnings:
            observer.say(warning, warning=True)
        return data

    def _read(self, recipe: InferrerRecipe, observer: TrainingObserver) -> list[SourcePairs]:
        sources = [
            read_pairs(source, columns=one.columns, weight=one.weight)
            for source, one in zip(self.data, recipe.data, strict=True)
        ]
        for source in sources:
            for complaint in source.complaints:
                observer.say(f"Left out {complaint}", warning=True)
        return sources


def _find_start(recipe: InferrerRecipe) -> PeftAdapter | None:
    if recipe.start is None:
        return None
    adapter = find_peft_adapter(str(recipe.start))
    if adapter is None:
        raise OptionError(
            f"start: there is no adapter in {recipe.start}", hint="name the folder of a finished tuning"
        )
    return adapter


def _encoder(text: InferrerTokenizer) -> Callable[[TrainingPair], TuningText | Removal]:
    def encode(pair: TrainingPair) -> TuningText | Removal:
        try:
            return text.encode(pair.group) or Removal.NO_ANSWER
        except RequestRefusedError:
            return Removal.UNUSABLE

    return encode
