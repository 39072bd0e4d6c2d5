"""What the rollouts of a step are like: pure functions, each in linear time.

Texts are measured as a user sees them, without thinking. A response without an answer has no figures of its text, and
one without a finite reward none of its reward.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from random import Random
from statistics import fmean, pvariance

from flip_reward.audit.monitor.rollout import Rollout
from flip_reward.core.copying import Copying
from flip_reward.core.response import replace_lone_surrogates, visible_answer
from flip_reward.core.score import Outcome
from flip_reward.core.tokens import load_normalizer

CHARACTERS_READ = 20_000
"""How much of a text is looked at for its words; its length and what it copies are of all of it."""
MOST_PAIRS = 500
_NEAR = 0.05
_LARGEST = 1e100
_PHRASE_WORDS = (2, 3)

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeasuredRollout:
    """A rollout with what can be said of its text by itself; None where it has no answer, or nothing to measure.

    Attributes:
        rollout: As it was logged.
        reward: The reward; None also where it is not a finite number.
        tokens: The words of the answer.
        length: Its characters.
        copied: The share of the instruction's own words that stands in it (`core.copying`).
        repetition: The share of its 4-grams that stood in it before.
        phrases: The runs of two and three words in it that are not in the prompt.
    """

    rollout: Rollout
    reward: float | None
    tokens: tuple[str, ...]
    length: float | None
    copied: float | None
    repetition: float | None
    phrases: frozenset[Phrase] = frozenset()


def measure(rollout: Rollout) -> MeasuredRollout:
    """Measure the text of a rollout."""
    reward = finite(rollout.reward)
    answer = visible_answer(rollout.response)
    if isinstance(answer, Outcome):  # blank, or nothing but thinking
        return MeasuredRollout(rollout, reward, (), None, None, None)
    tokens = tokenize(answer)
    distinct, total = len(_ngrams(tokens, 4)), len(tokens) - 3
    return MeasuredRollout(
        rollout,
        reward,
        tokens,
        length=float(len(answer)),
        copied=Copying.of(rollout.prompt).measure_share(answer),
        repetition=1 - distinct / total if total > 0 else 0.0,
        phrases=_find_phrases(tokens, tokenize(rollout.prompt)),
    )


def _find_phrases(tokens: Sequence[str], asked: Sequence[str]) -> frozenset[Phrase]:
    found = (_ngrams(tokens, words) - _ngrams(asked, words) for words in _PHRASE_WORDS)
    return frozenset(chain.from_iterable(found))


def finite(value: float | None) -> float | None:
    """Return a number, and None for what is none, or has no square that is one."""
    return value if value is not None and abs(value) < _LARGEST else None


def measure_saturation(rewards: Sequence[float], maximum: float, minimum: float) -> float | None:
    """Return the share of rewards within 5 % of the maximum, in units of the range from the minimum.

    Example:
        >>> measure_saturation([0.2, 0.96, 1.0, 0.5], 1.0, 0.0)
        0.5
    """
    if not rewards or maximum <= minimum:
        return None
    least = maximum - _NEAR * (maximum - minimum)
    return sum(reward >= least for reward in rewards) / len(rewards)


def measure_slope(points: Sequence[tuple[int, float]]) -> float | None:
    """Return the slope of a straight line through points, by least squares; None with fewer than two."""
    if len(points) < 2:
        return None
    x, y = fmean(step for step, _ in points), fmean(value for _, value in points)
    spread = math.fsum((step - x) ** 2 for step, _ in points)
    return math.fsum((step - x) * (value - y) for step, value in points) / spread


def measure_noise(rewards: Sequence[float], spreads: Sequence[tuple[float, int]]) -> float | None:
    """Return which share of the variance of rewards is that of their inferences, at most 1.

    `spreads` are the standard deviation of the inferences behind a reward (division by their number), and how many
    they are: the mean of more of them varies less.
    """
    total = pvariance(rewards) if len(rewards) > 1 else 0.0
    if not spreads or not total:
        return None
    return min(1.0, fmean(spread**2 / max(1, samples - 1) for spread, samples in spreads) / total)


def measure_drift(rewards: Sequence[float], early: Sequence[float]) -> float | None:
    """Return the statistic of Kolmogorov and Smirnov: the largest distance between two distributions, 0 to 1.

    Example:
        >>> measure_drift([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]), measure_drift([2.0, 3.0], [0.0, 1.0])
        (0.0, 1.0)
    """
    if not rewards or not early:
        return None
    one, other = sorted(rewards), sorted(early)
    return max(
        abs(bisect_right(one, value) / len(one) - bisect_right(other, value) / len(other)) for value in one + other
    )


def measure_likeness(texts: Sequence[Sequence[str]], seed: int) -> float | None:
    """Return the mean Jaccard index of the 3-grams of two texts; of many pairs, over `MOST_PAIRS` drawn ones."""
    sets = [grams for grams in (_ngrams(text, 3) for text in texts) if grams]
    if len(sets) < 2:
        return None
    pairs: Iterable[tuple[int, int]] = combinations(range(len(sets)), 2)
    if len(sets) * (len(sets) - 1) // 2 > MOST_PAIRS:
        generator = Random(seed)  # noqa: S311 - repeatable on purpose
        pairs = [_draw_pair(len(sets), generator) for _ in range(MOST_PAIRS)]
    return fmean(len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs)


def _draw_pair(count: int, generator: Random) -> tuple[int, int]:
    first, second = generator.sample(range(count), 2)
    return first, second


def count_phrases(measured: Iterable[MeasuredRollout]) -> Counter[Phrase]:
    """Count for each phrase how many responses hold it."""
    return Counter(phrase for one in measured for phrase in one.phrases)


def find_rising_phrase(
    counts: Mapping[Phrase, int], responses: int, early: Mapping[Phrase, int], early_responses: int
) -> tuple[Phrase, float] | None:
    """Return the phrase whose share of responses rose most, and by how much; of several the longest one."""
    if not counts or not early_responses:
        return None
    rises = {phrase: count / responses - early.get(phrase, 0) / early_responses for phrase, count in counts.items()}
    best = max(rises, key=lambda phrase: (rises[phrase], len(phrase), phrase))
    return best, max(0.0, rises[best])


def pair_with_reward(
    measured: Sequence[MeasuredRollout], values: Sequence[float | None]
) -> list[list[tuple[float, float]]]:
    """Return a figure and the reward of each sample that has both, in the groups of a prompt."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for one, value in zip(measured, values, strict=True):
        if one.reward is not None and value is not None:
            groups.setdefault(one.rollout.prompt, []).append((value, one.reward))
    return list(groups.values())


def tokenize(text: str) -> tuple[str, ...]:
    """Return the words of the beginning of a text, in any language."""
    return tuple(load_normalizer("multilingual").tokenize(replace_lone_surrogates(text[:CHARACTERS_READ])))


def _ngrams(tokens: Sequence[str], words: int) -> set[Phrase]:
    return set(zip(*(tokens[start:] for start in range(words)), strict=False))
