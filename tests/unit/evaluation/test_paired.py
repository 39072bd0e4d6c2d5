"""When one reward is called better than another."""

import pytest

from flip_reward.evaluation.grading import ItemRewards
from flip_reward.evaluation.paired import RewardGrades, compare_pairs
from tests.unit.evaluation.items import grade, item, said

RIGHT, WRONG, TIE, UNSCORED = said(1, 0), said(0, 1), said(1, 1), said(None, 0)


def grades_of(label: str, *rewards: ItemRewards) -> RewardGrades:
    items = [item(str(number)) for number in range(len(rewards))]
    return RewardGrades("b", label, grade("preference", items, rewards))


def test_by_hand() -> None:
    """12 items only a has right, 2 only b, 6 both: 10 of 20 more, and p of 2 or fewer heads in 14 throws, doubled."""
    a = grades_of("a", *[RIGHT] * 12, *[WRONG] * 2, *[RIGHT] * 6)
    b = grades_of("b", *[WRONG] * 12, *[RIGHT] * 2, *[RIGHT] * 6)
    [result] = compare_pairs([(a, b)])
    assert result.difference.value == result.strict_difference.value == 0.5
    assert result.mcnemar_p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert (result.holm_p, result.verdict, result.items) == (result.mcnemar_p, "a better", 20)
    [turned] = compare_pairs([(b, a)])
    assert (turned.difference.value, turned.verdict) == (-0.5, "b better")


def test_many_pairs_need_more() -> None:
    """One of 40 comparisons with p = .013 proves nothing."""
    a = grades_of("a", *[RIGHT] * 12, *[WRONG] * 2, *[RIGHT] * 6)
    b = grades_of("b", *[WRONG] * 12, *[RIGHT] * 2, *[RIGHT] * 6)
    results = compare_pairs([(a, b), *[(a, a)] * 39])
    assert results[0].difference.low > 0
    assert results[0].holm_p == pytest.approx(40 * results[0].mcnemar_p)
    assert {result.verdict for result in results} == {"not told apart"}


def test_ties_alone_make_no_winner() -> None:
    """Strictly, a judge that always ties is far worse than a coin's throws; fractionally it is the same."""
    coin = grades_of("coin", *[RIGHT, WRONG] * 20)
    judge = grades_of("judge", *[TIE] * 40)
    [result] = compare_pairs([(coin, judge)])
    assert (result.difference.value, result.strict_difference.value) == (0, 0.5)
    assert result.mcnemar_p < 1e-5
    assert result.verdict == "not told apart"


def test_rules_that_contradict_each_other_make_no_winner() -> None:
    """Few right and never a tie against hardly ever decided: each rule names another winner."""
    bold = grades_of("bold", *[RIGHT] * 12, *[WRONG] * 28)
    shy = grades_of("shy", *[UNSCORED] * 39, WRONG)
    [result] = compare_pairs([(bold, shy)])
    assert result.difference.high < 0 < result.strict_difference.low
    assert result.holm_p < 0.001
    assert result.verdict == "not told apart"


def test_a_small_difference_that_is_always_the_same_needs_its_test_too() -> None:
    a = grades_of("a", *[RIGHT] * 4, *[TIE] * 6)
    b = grades_of("b", *[TIE] * 10)
    [result] = compare_pairs([(a, b)])
    assert result.difference.low > 0
    assert (result.mcnemar_p, result.verdict) == (0.125, "not told apart")


def test_a_reward_that_never_answered_is_compared_with_nothing() -> None:
    a, b = grades_of("a", *[RIGHT] * 12), grades_of("b", *[WRONG] * 12)
    silent = grades_of("silent", *[UNSCORED] * 12)
    assert compare_pairs([(a, silent), (a, b), (silent, b)]) == compare_pairs([(a, b)])
