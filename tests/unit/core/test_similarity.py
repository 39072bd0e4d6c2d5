from __future__ import annotations

import math
import pickle
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.idf.table import WordTable, count_words, load_shipped_table
from flip_reward.core.similarity import IdfF1, Match, Similarity, TokenF1, find_normalizer
from flip_reward.core.tokens import load_normalizer
from flip_reward.errors import OptionError

WORDS = st.sampled_from(
    ["a", "the", "An", "cat", "Cat!", "dog", "sat", "on", "on", "“the”", "诗", "诗。", "x\x00a", "?"]
)
TEXTS = st.one_of(st.lists(WORDS).map(" ".join), st.text())


def plain_match(normalizer: str, inferred: str, original: str) -> Match:
    """What TokenF1 must equal: both sides counted anew, in the operations of the authors' metric."""
    tokenize = load_normalizer(normalizer).tokenize
    predicted, expected = tokenize(inferred), tokenize(original)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    if shared == 0:
        return Match(0.0, 0.0, 0.0)
    precision = 1.0 * shared / len(predicted)
    recall = 1.0 * shared / len(expected)
    return Match((2 * precision * recall) / (precision + recall), precision, recall)


@pytest.mark.parametrize("normalizer", ["english", "multilingual"])
@given(inferred=TEXTS, original=TEXTS)
def test_token_f1_equals_the_plain_version(normalizer: str, inferred: str, original: str) -> None:
    assert TokenF1(normalizer).prepare(original).compare(inferred) == plain_match(normalizer, inferred, original)


@given(original=TEXTS, inferred=st.lists(TEXTS, max_size=4))
def test_a_prepared_instruction_can_be_compared_again_and_again(original: str, inferred: list[str]) -> None:
    reference = TokenF1().prepare(original)
    once = [reference.compare(text) for text in inferred]

    assert [reference.compare(text) for text in inferred] == once
    assert once == [TokenF1().prepare(original).compare(text) for text in inferred]


@given(one=TEXTS, other=TEXTS)
def test_the_two_sides_swap_precision_and_recall(one: str, other: str) -> None:
    there, back = TokenF1().prepare(one).compare(other), TokenF1().prepare(other).compare(one)

    assert (there.precision, there.recall) == (back.recall, back.precision)


def test_tokens_are_shared_as_often_as_both_sides_have_them() -> None:
    match = TokenF1().prepare("on on on and on").compare("on on off")

    assert match == Match(0.5, 2 / 3, 0.4)


@pytest.mark.parametrize("blank", ["", " \n", "The, an... a!", "?!"])
def test_an_instruction_without_tokens_is_empty(blank: str) -> None:
    reference = TokenF1().prepare(blank)

    assert reference.empty
    assert reference.compare(blank) == Match(0.0, 0.0, 0.0)


def test_an_instruction_with_tokens_is_not_empty() -> None:
    assert not TokenF1().prepare("plan a").empty


def test_the_normalizer_decides_what_a_token_is() -> None:
    original, inferred = "写一首诗。", "写一首诗"

    assert TokenF1("english").prepare(original).compare(inferred).value == 0.0
    assert TokenF1("multilingual").prepare(original).compare(inferred).value == 1.0
    assert not TokenF1("multilingual").prepare("the a").empty


def test_the_name_shows_the_normalizer_unless_it_is_the_authors() -> None:
    similarities: list[Similarity] = [TokenF1(), TokenF1("multilingual")]

    assert [similarity.name for similarity in similarities] == ["f1", "f1:multilingual"]


def test_a_prepared_instruction_can_be_sent_to_another_process() -> None:
    reference = pickle.loads(pickle.dumps(TokenF1().prepare("a cat and a cat")))

    assert reference.compare("cat cat").precision == 1.0


def test_an_unknown_normalizer_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown normalizer"):
        TokenF1("latin")


PROMPTS = ("write poem", "write essay", "write haiku", "sing")
"""Of 4: write is in 3, each other word in 1. So ln(5/4), ln(5/2), and ln 5 for a word in none."""
WRITE, POEM, UNKNOWN = math.log(5 / 4), math.log(5 / 2), math.log(5)


def idf_of(*prompts: str, normalizer: str = "english") -> IdfF1:
    return IdfF1(count_words(prompts, load_normalizer(normalizer)))


@pytest.mark.parametrize(
    ("original", "inferred", "shared", "precision", "recall"),
    [
        ("Write a poem.", "write the poem!", WRITE + POEM, WRITE + POEM, WRITE + POEM),
        ("write poem", "write essay", WRITE, WRITE + POEM, WRITE + POEM),
        ("write poem", "poem", POEM, POEM, WRITE + POEM),
        ("write frogs", "frogs sing", UNKNOWN, UNKNOWN + POEM, WRITE + UNKNOWN),
        ("poem poem write", "poem poem poem", 2 * POEM, 3 * POEM, 2 * POEM + WRITE),
        ("poem", "poem poem poem", POEM, 3 * POEM, POEM),
    ],
)
def test_tokens_count_by_how_rare_they_are(
    original: str, inferred: str, shared: float, precision: float, recall: float
) -> None:
    match = idf_of(*PROMPTS).prepare(original).compare(inferred)
    assert match.precision == pytest.approx(shared / precision, abs=1e-9)
    assert match.recall == pytest.approx(shared / recall, abs=1e-9)
    assert match.value == pytest.approx(2 * shared / (precision + recall), abs=1e-9)


def plain_idf_match(table: WordTable, inferred: str, original: str) -> Match:
    """What IdfF1 must equal: both sides counted anew, in exact numbers until the end."""

    def weigh(tokens: Counter[str]) -> int:
        return sum(table.weigh(table.counts.get(token, 0)) * count for token, count in tokens.items())

    predicted, expected = (Counter(table.normalizer.tokenize(text)) for text in (inferred, original))
    shared = weigh(predicted & expected)
    if shared == 0:
        return Match(0.0, 0.0, 0.0)
    precision, recall = float(Fraction(shared, weigh(predicted))), float(Fraction(shared, weigh(expected)))
    return Match((2 * precision * recall) / (precision + recall), precision, recall)


@pytest.mark.parametrize("normalizer", ["english", "multilingual"])
@given(prompts=st.lists(TEXTS, max_size=5), inferred=TEXTS, original=TEXTS)
def test_idf_f1_equals_the_plain_version(normalizer: str, prompts: list[str], inferred: str, original: str) -> None:
    table = count_words([*prompts, "cat", "dog"], load_normalizer(normalizer))
    match = IdfF1(table).prepare(original).compare(inferred)
    assert match == plain_idf_match(table, inferred, original)
    assert 0 <= match.value <= 1


@pytest.mark.parametrize("normalizer", ["english", "multilingual"])
@given(inferred=TEXTS, original=TEXTS, instructions=st.integers(2, 10**6))
def test_with_equal_weights_idf_f1_is_token_f1(
    normalizer: str, inferred: str, original: str, instructions: int
) -> None:
    equal = IdfF1(WordTable(load_normalizer(normalizer), instructions, {}))
    ours, papers = equal.prepare(original), TokenF1(normalizer).prepare(original)
    assert ours.empty is papers.empty
    assert ours.compare(inferred) == papers.compare(inferred)


@given(prompts=st.lists(TEXTS, max_size=5), one=TEXTS, other=TEXTS)
def test_the_two_sides_of_idf_f1_swap_precision_and_recall(prompts: list[str], one: str, other: str) -> None:
    similarity = idf_of("cat", "dog", *prompts)
    there, back = similarity.prepare(one).compare(other), similarity.prepare(other).compare(one)
    assert (there.precision, there.recall, there.value) == (back.recall, back.precision, back.value)


@given(original=TEXTS, inferred=TEXTS, times=st.integers(1, 30))
def test_a_rare_word_said_again_and_again_counts_as_often_as_it_was_asked_for(
    original: str, inferred: str, times: int
) -> None:
    reference = idf_of(*PROMPTS).prepare(f"haiku {original}")
    once = reference.compare(f"{inferred} haiku")
    planted = reference.compare(f"{inferred} haiku" + " haiku" * times * (1 + original.count("haiku")))
    assert planted.recall == once.recall
    assert planted.value < once.value


def test_a_word_in_every_instruction_counts_nothing() -> None:
    similarity = idf_of("please sing", "please dance", "please")
    assert similarity.prepare("Please!").empty
    assert similarity.prepare("Please!").compare("please") == Match(0.0, 0.0, 0.0)
    reference = similarity.prepare("please sing")
    assert reference.compare("please please dance") == Match(0.0, 0.0, 0.0)
    assert reference.compare("please please") == Match(0.0, 0.0, 0.0)
    assert reference.compare("sing").value == reference.compare("please please sing").value == 1.0


@pytest.mark.parametrize("blank", ["", " \n", "The, an... a!", "?!"])
def test_an_instruction_without_tokens_is_empty_by_idf_f1(blank: str) -> None:
    reference = IdfF1().prepare(blank)
    assert reference.empty
    assert reference.compare(blank) == Match(0.0, 0.0, 0.0)


def test_the_packages_tables() -> None:
    similarities: list[Similarity] = [IdfF1(), IdfF1(load_shipped_table("multilingual"))]
    assert [similarity.name for similarity in similarities] == ["f1-idf", "f1-idf:multilingual"]
    reference = IdfF1().prepare("Write a haiku about frogs.")
    plain = TokenF1().prepare("Write a haiku about frogs.")
    vague, close = "Write something about it.", "A haiku."
    assert reference.compare(vague).value < plain.compare(vague).value
    assert reference.compare(close).value > plain.compare(close).value
    assert similarities[1].prepare("写一首诗。").compare("写诗").value > 0.5


def test_a_weighed_instruction_can_be_sent_to_another_process() -> None:
    reference = idf_of(*PROMPTS).prepare("poem")
    assert pickle.loads(pickle.dumps(reference)).compare("poem poem").precision == 0.5


@pytest.mark.parametrize(
    ("similarity", "normalizer"),
    [
        ("f1", "english"),
        ("f1:multilingual", "multilingual"),
        ("f1-idf:english@1a2b3c4d", "english"),
        ("f1-idf:multilingual@1a2b3c4d", "multilingual"),
        ("embedding:some/model", "english"),
        ("None", "english"),
    ],
)
def test_the_normalizer_in_a_name(similarity: str, normalizer: str) -> None:
    assert find_normalizer(similarity) == normalizer
