"""Token F1 and `f1-idf` beside plain implementations: microseconds a comparison at 20 and 500 words, and their ratio.

Run `python bench/f1.py`, or `python bench/f1.py --json` for one JSON row a line. Both sides give equal bits for every
pair measured, or the program stops; the plain `f1-idf`, which adds up floats, may differ by 1e-9.
"""

from __future__ import annotations

import math
import random
import re
import statistics
import string
import timeit
from collections import Counter
from collections.abc import Callable, Iterator

from figures import Figure, report
from flip_reward.core.idf.table import load_shipped_table
from flip_reward.core.similarity import IdfF1, TokenF1
from flip_reward.metrics import f1_score

REPEATS = 15
PAIRS = 16
SECONDS_PER_REPEAT = 0.05
OPENINGS = ("Please", "Can you", "Write", "Explain", "In your own words,", "Summarise")
PROSE = (
    "the a an of to and in that it's for with as on by state-of-the-art model 'language' reward small (instructions) "
    "infer response; poem Python function list sorted, numbers? from user's essay explain causes soil degradation. "
    'translate sentence into French: three "reasons" why people should learn history 1.5 per-cent of C++ code! '
    "email Anna about meeting on Monday, summary paragraph story dragon knight recipe using only two ingredients "
    "compare advantages and disadvantages renewable energy sources table columns year country price"
)
ACCENTED_PROSE = PROSE + " naïve café “quoted” Übung señor déjà l’été — façade naïveté élève … Straße"


def plain_normalize(text: str) -> str:
    punctuation = set(string.punctuation)
    kept = "".join(character for character in text.lower() if character not in punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def plain_f1(prediction: str, ground_truth: str) -> float:
    predicted, expected = plain_normalize(prediction).split(), plain_normalize(ground_truth).split()
    shared = sum((Counter(predicted) & Counter(expected)).values())
    if shared == 0:
        return 0.0
    precision, recall = 1.0 * shared / len(predicted), 1.0 * shared / len(expected)
    return (2 * precision * recall) / (precision + recall)


def plain_idf_f1(prediction: str, ground_truth: str) -> float:
    table = load_shipped_table("english")

    def weigh(tokens: Counter[str]) -> float:
        return sum(
            math.log((table.instructions + 1) / (table.counts.get(token, 0) + 1)) * count
            for token, count in tokens.items()
        )

    predicted, expected = Counter(plain_normalize(prediction).split()), Counter(plain_normalize(ground_truth).split())
    shared = weigh(predicted & expected)
    if shared == 0:
        return 0.0
    precision, recall = shared / weigh(predicted), shared / weigh(expected)
    return (2 * precision * recall) / (precision + recall)


def make_pairs(prose: str, length: int) -> list[tuple[str, str]]:
    """Make pairs of texts of `length` words that share about half of them, as inferred and original do."""
    words = prose.split()
    generator = random.Random(length)
    weights = [1 / (rank + 3) for rank in range(len(words))]

    def compose(kept: list[str]) -> str:
        drawn = generator.choices(words, weights, k=length - len(kept))
        mixed = [*kept, *drawn]
        generator.shuffle(mixed)
        return " ".join([generator.choice(OPENINGS), *mixed])

    expected = [compose([]) for _ in range(PAIRS)]
    return [(compose(generator.sample(text.split(), length // 2)), text) for text in expected]


def microseconds(call: Callable[[], object], calls: int) -> Callable[[], float]:
    """Return a program that times `call` once and gives microseconds for each of its `calls` comparisons."""
    timer = timeit.Timer(call)
    loops = max(1, round(SECONDS_PER_REPEAT / timer.timeit(1)))
    return lambda: timer.timeit(loops) / loops / calls * 1e6


def measure(name: str, run_ours: Callable[[], object], run_peer: Callable[[], object], peer: str = "plain") -> Figure:
    """Time both by turns, so that a busy machine slows both alike; medians of the times and of their ratios."""
    time_ours, time_peer = microseconds(run_ours, PAIRS), microseconds(run_peer, PAIRS)
    times = [(time_ours(), time_peer()) for _ in range(REPEATS)]
    value = statistics.median(ours for ours, _ in times)
    beside = statistics.median(theirs for _, theirs in times)
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    return Figure(name, round(value, 2), "µs", round(beside, 2), round(ratio, 2), peer)


def measure_pairs(name: str, pairs: list[tuple[str, str]]) -> list[Figure]:
    prepared = [(TokenF1().prepare(expected), prediction) for prediction, expected in pairs]
    for (bag, prediction), pair in zip(prepared, pairs, strict=True):
        if not bag.compare(prediction).value == f1_score(*pair).f1 == plain_f1(*pair):
            raise SystemExit(f"not equal to the plain implementation: {pair}")

    def run_prepared() -> None:
        for bag, prediction in prepared:
            bag.compare(prediction)

    def run_unprepared() -> None:
        for prediction, expected in pairs:
            f1_score(prediction, expected)

    def run_plain() -> None:
        for prediction, expected in pairs:
            plain_f1(prediction, expected)

    return [
        measure(f"F1, {name}, original prepared", run_prepared, run_plain),
        measure(f"F1, {name}, both sides each time", run_unprepared, run_plain),
        *measure_idf(name, pairs, run_prepared),
    ]


def measure_idf(name: str, pairs: list[tuple[str, str]], run_f1: Callable[[], object]) -> list[Figure]:
    similarity = IdfF1()
    prepared = [(similarity.prepare(expected), prediction) for prediction, expected in pairs]
    for (bag, prediction), pair in zip(prepared, pairs, strict=True):
        if not math.isclose(bag.compare(prediction).value, plain_idf_f1(*pair), abs_tol=1e-9):
            raise SystemExit(f"not equal to the plain implementation: {pair}")

    def run_prepared() -> None:
        for bag, prediction in prepared:
            bag.compare(prediction)

    def run_plain() -> None:
        for prediction, expected in pairs:
            plain_idf_f1(prediction, expected)

    return [
        measure(f"f1-idf, {name}, original prepared", run_prepared, run_plain),
        measure(f"f1-idf, {name}, original prepared", run_prepared, run_f1, "f1"),
    ]


def measure_all() -> Iterator[Figure]:
    """Measure everything."""
    for length in (20, 500):
        yield from measure_pairs(f"{length} words", make_pairs(PROSE, length))
        yield from measure_pairs(f"{length} words, not ASCII", make_pairs(ACCENTED_PROSE, length))


if __name__ == "__main__":
    report(measure_all, "Token F1 and f1-idf beside plain implementations.")
