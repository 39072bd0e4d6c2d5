"""The catalogue of similarities: `load_similarity` makes one from its name.

The libraries behind them are imported when a similarity is made, never by importing this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from flip_reward.core.idf.table import load_shipped_table
from flip_reward.core.similarity import IdfF1, Match, Similarity, TokenF1, name_similarity
from flip_reward.core.tokens import Normalizer, load_normalizer
from flip_reward.errors import MissingDependencyError, OptionError, suggest_name
from flip_reward.rewards.word_table import load_words

if TYPE_CHECKING:
    import numpy as np

DEFAULT_EMBEDDING_MODEL = "minishlab/potion-base-8M"

_EXTRA = "similarity"


def load_similarity(
    name: str, *, normalizer: str = "english", embedding_model: str | None = None, idf: str | None = None
) -> Similarity:
    """Make the similarity called `name`. Each gives values of 0 to 1, where 1 is the same instruction.

    - "f1": F1 over bags of tokens, the reward of the paper.
    - "f1-idf": the same where a token counts the more, the fewer instructions have it.
    - "rouge-l": F1 of the longest common subsequence of tokens (Lin 2004), which minds their order. Takes time
      proportional to the product of the two lengths, but many words at once: 0.1 ms at 500 words each.
    - "chrf": F-score of character n-grams up to 6, recall counting twice (Popović 2015). Kind to inflection.
    - "bleu": sentence BLEU up to 4-grams (Papineni et al. 2002), exponential smoothing, effective order.
    - "embedding": cosine of static sentence embeddings (model2vec), negative cosines counted as 0.

    The name that a similarity gives itself, such as "f1:multilingual" or "embedding:minishlab/potion-base-8M", makes
    the same one again; what follows the colon overrides the other arguments.

    Args:
        name: One of the names above.
        normalizer: What a token is, for all but "embedding", whose model has a tokenizer of its own: "english" or
            "multilingual".
        embedding_model: For "embedding": a local folder, or the name of a model2vec model on the Hugging Face hub,
            which is downloaded once. The default is minishlab/potion-base-8M (MIT, 30 MB, English).
        idf: For "f1-idf": prompts in any file that can be scored, or a table of their words; by default a table that
            comes with the package. Its fingerprint is part of the name, as in "f1-idf:english@1a2b3c4d".

    Raises:
        OptionError: There is no such similarity or normaliser, or the embedding model cannot be loaded.
        DataError: The prompts or the table cannot be read.
        MissingDependencyError: The library behind it is not installed.

    Example:
        >>> load_similarity("f1").prepare("Name three fruits.").compare("name a fruit").value
        0.4
    """
    measure, _, variant = name.partition(":")
    if measure == "embedding":
        return EmbeddingCosine(variant or embedding_model or DEFAULT_EMBEDDING_MODEL)
    if measure not in SIMILARITIES:
        suggestion = suggest_name(measure.lower(), SIMILARITIES)
        raise OptionError(
            f"unknown similarity {name!r}{suggestion}", hint=f"similarities are {', '.join(SIMILARITIES)}"
        )
    if embedding_model is not None:
        raise OptionError(f"an embedding model makes no sense with the similarity {name!r}")
    if measure == "f1-idf":
        return _load_idf_f1(name, variant or normalizer, idf)
    if idf is not None:
        raise OptionError(
            f"prompts to count words in make no sense with the similarity {name!r}",
            hint="choose --similarity f1-idf",
        )
    if measure == "f1":
        return TokenF1(variant or normalizer)
    return TokenSimilarity(measure, load_normalizer(variant or normalizer), _LOADERS[measure]())


def _load_idf_f1(name: str, variant: str, prompts: str | None) -> IdfF1:
    chosen, own, _ = variant.partition("@")
    normalizer = load_normalizer(chosen)
    if prompts is None:
        if own:
            raise OptionError(f"{name} counts words in prompts of its own", hint="name them: --idf FILE")
        return IdfF1(load_shipped_table(normalizer.name))
    words = load_words(prompts, normalizer)
    found = f"f1-idf:{normalizer.name}@{words.digest[:8]}"
    if own and name != found:
        raise OptionError(f"the words of {prompts} make {found}, not {name}")
    return IdfF1(words, name=found)


CompareTokens = Callable[[list[str]], Match]
"""The tokens of an inferred instruction -> how close it is."""

PrepareTokens = Callable[[list[str]], CompareTokens]
"""The tokens of an original instruction -> the comparison with it."""


@dataclass(frozen=True, slots=True)
class TokenSimilarity:
    """A library's measure over a normaliser's tokens, so that case, punctuation and scripts are treated alike."""

    measure: str
    normalizer: Normalizer
    prepare_tokens: PrepareTokens

    @property
    def name(self) -> str:
        """The measure's name, with the normaliser's unless that is "english"."""
        return name_similarity(self.measure, self.normalizer)

    def prepare(self, instruction: str) -> TokenReference:
        """Split the original instruction and hand its tokens to the measure."""
        tokens = self.normalizer.tokenize(instruction)
        return TokenReference(self.normalizer, empty=not tokens, compare_tokens=self.prepare_tokens(tokens))


@dataclass(frozen=True, slots=True)
class TokenReference:
    """An original instruction, prepared by a library's measure."""

    normalizer: Normalizer
    empty: bool
    compare_tokens: CompareTokens

    def compare(self, inferred: str) -> Match:
        """Compare the tokens of an inferred instruction with the original's."""
        return self.compare_tokens(self.normalizer.tokenize(inferred))


def _load_rouge_l() -> PrepareTokens:
    return _prepare_rouge_l


def _prepare_rouge_l(original: list[str]) -> CompareTokens:
    """Count the longest common subsequence bit by bit (Hyyrö 2004): a bit is 0 where it grew by a token so far."""
    places: dict[str, int] = {}
    for place, token in enumerate(original):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(original)) - 1

    def compare(inferred: list[str]) -> Match:
        bits = everywhere
        for token in inferred:
            if (found := bits & places.get(token, 0)) != 0:
                bits = (bits + found | bits - found) & everywhere
        length = len(original) - bits.bit_count()
        if not length:
            return Match(0.0, 0.0, 0.0)
        precision, recall = length / len(inferred), length / len(original)
        return Match(2 * precision * recall / (precision + recall), precision, recall)

    return compare


def _load_chrf() -> PrepareTokens:
    return _load_sacrebleu("CHRF")


def _load_bleu() -> PrepareTokens:
    return _load_sacrebleu("BLEU", tokenize="none", effective_order=True, force=True)


def _load_sacrebleu(metric: str, **settings: object) -> PrepareTokens:
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError as error:
        raise MissingDependencyError("sacrebleu", extra=_EXTRA) from error
    make = getattr(metrics, metric)

    def prepare(original: list[str]) -> CompareTokens:
        # A corpus of one sentence is that sentence, and only corpus_score uses n-grams counted beforehand.
        prepared = make(references=[[" ".join(original)]], **settings)

        def compare(inferred: list[str]) -> Match:
            percent = prepared.corpus_score([" ".join(inferred)], None).score
            return Match(min(1.0, percent / 100))

        return compare

    return prepare


_LOADERS = MappingProxyType({"rouge-l": _load_rouge_l, "chrf": _load_chrf, "bleu": _load_bleu})
SIMILARITIES = ("f1", "f1-idf", *_LOADERS, "embedding")
"""The names of the similarities."""


class EmbeddingCosine:
    """Cosine of static sentence embeddings by model2vec: meaning rather than words, on a CPU, in microseconds."""

    def __init__(self, model: str = DEFAULT_EMBEDDING_MODEL) -> None:
        try:
            from model2vec import StaticModel
        except ModuleNotFoundError as error:
            raise MissingDependencyError("model2vec", extra=_EXTRA) from error
        try:
            # The whole instruction counts, and a model on this machine is not asked for again.
            loaded = StaticModel.from_pretrained(model, max_length=None, force_download=False)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"cannot load the embedding model {model!r}: {error}",
                hint="give a local folder, or the name of a model2vec model on the Hugging Face hub",
            ) from error
        self._model = loaded
        self._model_name = model

    @property
    def name(self) -> str:
        """Such as "embedding:minishlab/potion-base-8M"."""
        return f"embedding:{self._model_name}"

    def prepare(self, instruction: str) -> EmbeddedInstruction:
        """Embed the original instruction."""
        return EmbeddedInstruction(self._embed, self._embed(instruction))

    def _embed(self, text: str) -> np.ndarray:
        vector: np.ndarray = self._model.encode([text], use_multiprocessing=False)[0].astype("float64")
        length = float(vector @ vector) ** 0.5
        return vector / length if length else vector


@dataclass(frozen=True, slots=True)
class EmbeddedInstruction:
    """An original instruction as a vector of length 1, or 0 when the model knows no token of it."""

    embed: Callable[[str], np.ndarray]
    vector: np.ndarray

    @property
    def empty(self) -> bool:
        """The model knows no token of the instruction."""
        return not self.vector.any()

    def compare(self, inferred: str) -> Match:
        """Embed an inferred instruction and take the cosine, 0 to 1: opposed directions count as unrelated."""
        cosine = float(self.vector @ self.embed(inferred))
        return Match(min(1.0, max(0.0, cosine)))
