from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.similarity import Match, Similarity, TokenF1
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
