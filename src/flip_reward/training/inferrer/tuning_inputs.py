"""`TuningInputs`: what a recipe learns from, opened before a model is loaded and read once there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flip_reward.core.frames import Frame
from flip_reward.data.input import Input
from flip_reward.data.readers import open_input
from flip_reward.engines.huggingface.loading import HfModel
from flip_reward.engines.huggingface.text import ModelText, find_stops
from flip_reward.engines.lora.adapter import Adapter, find_adapter
from flip_reward.errors import OptionError, RequestRefusedError
from flip_reward.evaluation.benchmarks import BENCHMARKS
from flip_reward.scoring.manifest import InputIdentity
from flip_reward.training.common.tuning_progress import TuningObserver
from flip_reward.training.inferrer.data import DataOptions, TuningData, prepare_data
from flip_reward.training.inferrer.pairs import (
    Pair,
    Removal,
    SourcePairs,
    check_columns,
    read_evaluation_prompts,
    read_pairs,
)
from flip_reward.training.inferrer.recipe import InferrerRecipe
from flip_reward.training.inferrer.text import InferrerText, TuningText


@dataclass(frozen=True, slots=True)
class TuningInputs:
    """The files, data sets and adapter that a recipe names.

    Attributes:
        frame: The words that the model is asked in.
        start: The adapter that is tuned on, if one is.
        data: The sources of pairs, in the order of the recipe.
        excluded: Files of prompts, or benchmarks by name, that are kept out.
        identities: What tells the content of all of them apart.
    """

    frame: Frame
    start: Adapter | None
    data: Sequence[Input]
    excluded: Sequence[str]
    identities: Sequence[InputIdentity]

    @classmethod
    def open(cls, recipe: InferrerRecipe) -> TuningInputs:
        """Find everything, and read nothing of it yet.

        Raises:
            DataError: A file is missing or cannot be read.
            OptionError: A column is none of ours, or `start` holds no adapter.
            TemplateError: There is no such frame, or it is malformed.
            EngineUnavailableError: The adapter to start from lacks its weights.
        """
        data = [open_input(recipe.locate(one.source)) for one in recipe.data]
        excluded = [name if name in BENCHMARKS else recipe.locate(name) for name in recipe.exclude]
        files = [open_input(name) for name in excluded if name not in BENCHMARKS]
        for one in recipe.data:
            check_columns(one.columns)
        identities = [InputIdentity(name=one.name, fingerprint=one.fingerprint()) for one in [*data, *files]]
        identities += [InputIdentity(name=name, fingerprint=name) for name in excluded if name in BENCHMARKS]
        return cls(recipe.load_frame(), _find_start(recipe), data, excluded, identities)

    def read_evaluated(self) -> list[str]:
        """Read the prompts that are kept out.

        Raises:
            DataError: One cannot be read.
        """
        return [prompt for source in self.excluded for prompt in read_evaluation_prompts(source)]

    def prepare(
        self, recipe: InferrerRecipe, loaded: HfModel, evaluated: Sequence[str], observer: TuningObserver
    ) -> TuningData:
        """Read the pairs as texts of a model.

        Args:
            recipe: Says which are kept.
            loaded: The model.
            evaluated: Prompts that are kept out.
            observer: Told what is odd.

        Raises:
            DataError: A source cannot be read, or no row is left.
        """
        model_text = ModelText(loaded.tokenizer, loaded.name, recipe.no_thinking)
        text = InferrerText(model_text, self.frame, find_stops(loaded.network, loaded.tokenizer))
        options = DataOptions(
            rows=recipe.rows,
            held_out=recipe.held_out,
            keep_near_duplicates=recipe.keep_near_duplicates,
            max_tokens=min(recipe.max_tokens, loaded.context_tokens),
            max_instruction_tokens=recipe.max_instruction_tokens,
            seed=recipe.seed,
        )
        data = prepare_data(self._read(recipe, observer), evaluated, options, _encoder(text))
        for warning in data.warnings:
            observer.say(warning, warning=True)
        return data

    def _read(self, recipe: InferrerRecipe, observer: TuningObserver) -> list[SourcePairs]:
        sources = [
            read_pairs(source, columns=check_columns(one.columns), weight=one.weight)
            for source, one in zip(self.data, recipe.data, strict=True)
        ]
        for source in sources:
            for complaint in source.complaints:
                observer.say(f"Left out {complaint}", warning=True)
        return sources


def _find_start(recipe: InferrerRecipe) -> Adapter | None:
    if recipe.start is None:
        return None
    adapter = find_adapter(str(recipe.start))
    if adapter is None:
        raise OptionError(f"start: {recipe.start} holds no adapter", hint="name the folder of a finished tuning")
    return adapter


def _encoder(text: InferrerText) -> Callable[[Pair], TuningText | Removal]:
    def encode(pair: Pair) -> TuningText | Removal:
        try:
            return text.encode(pair.group) or Removal.NO_ANSWER
        except RequestRefusedError:
            return Removal.UNUSABLE

    return encode
