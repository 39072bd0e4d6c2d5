from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_reward.core.replies.first_token import Alternatives, weigh_answers, write_alternatives

YES_NO = ("Yes", "No")


def say(**probabilities: float) -> Alternatives:
    return [(text, math.log(value)) for text, value in probabilities.items()]


@pytest.mark.parametrize("text", ["Yes", " Yes", "yes", "YES", "▁Yes", "ĠYes", "**Yes", '"Yes', "Yes.", "yes\n"])
def test_spellings_of_a_word_count_for_it(text: str) -> None:
    odds = weigh_answers([(text, math.log(0.6)), ("No", math.log(0.3))], YES_NO)
    assert odds.log_odds("Yes", "No") == pytest.approx(math.log(2))
    assert odds.mass == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["Yesterday", "Y", "ye", "s", "", " ", "yes no", "是", "�"])
def test_other_tokens_count_for_nothing(text: str) -> None:
    assert weigh_answers([(text, math.log(0.9)), ("No", math.log(0.05))], YES_NO).mass == pytest.approx(0.05)


@pytest.mark.parametrize(("text", "counts"), [("A", True), (" A", True), ("A.", True), ("(A", True), ("a", False)])
def test_a_letter_has_no_other_case(text: str, counts: bool) -> None:
    mass = weigh_answers([(text, math.log(0.7)), ("B", math.log(0.2))], "AB").mass
    assert mass == pytest.approx(0.9 if counts else 0.2)


def test_the_expected_rating() -> None:
    top = [("7", math.log(0.4)), (" 8", math.log(0.2)), ("8", math.log(0.2)), ("The", math.log(0.1))]
    odds = weigh_answers(top, "123456789")
    assert odds.expect() == pytest.approx((2.8 + 3.2) / 0.8)  # the digits that are not among them weigh nothing
    assert weigh_answers([("10", math.log(0.9)), ("1", math.log(0.05))], "123456789").mass == pytest.approx(0.05)


def test_probabilities_that_round_to_one_are_told_apart() -> None:
    far, farther = (weigh_answers([("Yes", -1e-20), ("No", value)], YES_NO) for value in (-50.0, -60.0))
    assert farther.log_odds("Yes", "No") > far.log_odds("Yes", "No")


@pytest.mark.parametrize(
    ("top", "most"),
    [
        ([("Yes", math.log(0.8)), ("Sure", math.log(0.1))], math.log(0.1)),  # no likelier than what is left
        ([("Yes", math.log(0.6)), ("Sure", math.log(0.01))], math.log(0.01)),  # or than the least of those named
        ([("Yes", math.log(0.5)), ("yes", math.log(0.5))], math.log(1e-6)),  # where nothing is left but rounding
    ],
)
def test_an_answer_that_is_not_named_has_the_most_that_it_can_have(top: Alternatives, most: float) -> None:
    odds = weigh_answers(top, YES_NO)
    assert odds.log_odds("No", "Yes") == pytest.approx(most - odds.log_probabilities["Yes"])


@pytest.mark.parametrize("text", ["<think>", "<th", "<|channel|>", "[THINK]"])
def test_what_begins_with_thinking_is_no_answer_and_says_what_to_do(text: str) -> None:
    odds = weigh_answers([(text, -0.01), ("Yes", -5.0)], YES_NO)
    assert not odds.is_answer
    assert "--no-thinking" in odds.explain()
    assert repr(text) in odds.explain()


def test_what_begins_otherwise_says_with_what() -> None:
    odds = weigh_answers(say(The=0.9, Yes=0.05), YES_NO)
    assert not odds.is_answer
    assert "'The'" in odds.explain()
    assert "5.0%" in odds.explain()
    assert "--no-thinking" not in odds.explain()


@given(
    st.lists(
        st.tuples(st.text(max_size=4) | st.sampled_from(["Yes", "No", "7"]), st.floats(-9998, 0)),
        min_size=1,
        max_size=25,
    )
)
def test_any_tokens_give_numbers(top: list[tuple[str, float]]) -> None:
    odds = weigh_answers(top, YES_NO)
    assert 0 <= odds.mass <= 1
    assert math.isfinite(odds.log_odds("Yes", "No"))
    rating = weigh_answers(top, "123456789")
    assert not rating.log_probabilities or 1 <= rating.expect() <= 9
    assert odds.explain().isprintable() or any(not text.isprintable() for text, _ in top)
    assert json.loads(write_alternatives(top)) == [list(one) for one in top]


def test_half_a_surrogate_pair_can_be_written_down() -> None:
    top = [("\ud83c", -0.1), ("Yes", -3.0)]
    write_alternatives(top).encode()
    weigh_answers(top, YES_NO).explain().encode()
