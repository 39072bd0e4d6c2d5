"""When one reward is called better than another."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binomtest

from flip_reward.evaluation.benchmarks.base import BenchmarkItem
from flip_reward.evaluation.grading import ItemRewards
from flip_reward.evaluation.paired import MCNEMAR, SIGN_FLIP, RewardGrades, compare_differences, compare_pairs
from tests.unit.evaluation.items import grade, item, known, said, turned

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
    assert result.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert (result.holm_p, result.verdict, result.items) == (result.p, "a better", 20)
    [turned] = compare_pairs([(b, a)])
    assert (turned.difference.value, turned.verdict) == (-0.5, "b better")


def test_many_pairs_need_more() -> None:
    """One of 40 comparisons with p = .013 proves nothing."""
    a = grades_of("a", *[RIGHT] * 12, *[WRONG] * 2, *[RIGHT] * 6)
    b = grades_of("b", *[WRONG] * 12, *[RIGHT] * 2, *[RIGHT] * 6)
    results = compare_pairs([(a, b), *[(a, a)] * 39])
    assert results[0].difference.low > 0
    assert results[0].holm_p == pytest.approx(40 * results[0].p)
    assert {result.verdict for result in results} == {"not told apart"}


def test_ties_alone_make_no_winner() -> None:
    """Strictly, a judge that always ties is far worse than a coin's throws; fractionally it is the same."""
    coin = grades_of("coin", *[RIGHT, WRONG] * 20)
    judge = grades_of("judge", *[TIE] * 40)
    [result] = compare_pairs([(coin, judge)])
    assert (result.difference.value, result.strict_difference.value) == (0, 0.5)
    assert (result.p, result.verdict) == (1, "not told apart")


def test_rules_that_contradict_each_other_make_no_winner() -> None:
    """Few right and never a tie against hardly ever decided: each rule names another winner."""
    bold = grades_of("bold", *[RIGHT] * 12, *[WRONG] * 28)
    shy = grades_of("shy", *[UNSCORED] * 39, WRONG)
    [result] = compare_pairs([(bold, shy)])
    assert result.difference.high < 0 < result.strict_difference.low
    assert result.holm_p < 0.05
    assert result.verdict == "not told apart"


def test_a_small_difference_that_is_always_the_same_needs_its_test_too() -> None:
    a = grades_of("a", *[RIGHT] * 4, *[TIE] * 6)
    b = grades_of("b", *[TIE] * 10)
    [result] = compare_pairs([(a, b)])
    assert (result.p, result.verdict) == (0.125, "not told apart")


def test_items_that_share_a_prompt_are_one_throw() -> None:
    """Ten items only a has right prove much, unless they are of two prompts."""
    alone = [item(str(number)) for number in range(20)]
    [apart] = compare_pairs([contrast(alone)])
    assert (apart.test, apart.p, apart.verdict) == (MCNEMAR, 2 / 2**10, "a better")
    shared = [
        replace(one, group=replace(one.group, messages=alone[n // 5].group.messages)) for n, one in enumerate(alone)
    ]
    [together] = compare_pairs([contrast(shared)])
    assert together.difference.value == apart.difference.value == 0.5
    assert (together.test, together.p, together.verdict) == (SIGN_FLIP, 0.5, "not told apart")
    assert together.difference.low < 0 < apart.difference.low


def contrast(items: list[BenchmarkItem]) -> tuple[RewardGrades, RewardGrades]:
    """A reward that has the first ten right, and one that has none."""
    a, b = ([RIGHT] * right + [WRONG] * (20 - right) for right in (10, 0))
    return RewardGrades("b", "a", grade("preference", items, a)), RewardGrades(
        "b", "b", grade("preference", items, b)
    )


@pytest.mark.parametrize(
    "sums",
    [
        [1.0, -1.0, 1.0, 0.5, 0.5, -0.5, 1.0, 0.0],
        [2 / 9, 5 / 9, -1 / 18, 1 / 2, 7 / 18, -2 / 9, 1 / 3],
        [0.25, 1 / 3, 0.2, -1 / 7, 1 / 11, 2 / 13, 0.5, 1 / 17, 1 / 19],
        [0.123456, 0.654321, -0.31415, 0.271828, 0.57721, 0.1618],
    ],
)
def test_the_sign_flip_test_is_the_share_of_all_turns(sums: list[float]) -> None:
    totals = [abs(np.dot(signs, sums)) for signs in product((1, -1), repeat=len(sums))]
    expected = sum(total > abs(sum(sums)) - 1e-9 for total in totals) / len(totals)
    assert compare_differences(sums, range(len(sums))).p == pytest.approx(expected, rel=1e-9)


def test_the_sign_flip_test_of_signs_alone_is_mcnemars() -> None:
    signs = [1.0] * 40 + [-1.0] * 17 + [0.0] * 50
    alone, halved = (compare_differences([size * sign for sign in signs], range(107)) for size in (1, 0.5))
    assert (alone.name, halved.name) == (MCNEMAR, SIGN_FLIP)
    assert halved.p == pytest.approx(alone.p)


def test_no_difference_proves_nothing_and_a_large_one_has_a_p_above_0() -> None:
    assert compare_differences([0, 0], [1, 1]).p == compare_differences([0.5, -0.5], [1, 1]).p == 1
    assert 0 < compare_differences([0.5] * 3000, range(3000)).p < 1e-9


def test_equal_rewards_are_hardly_ever_told_apart_where_items_share_prompts() -> None:
    """40 prompts of 5 pairs; by each pair for itself it would be one in six."""
    generator = np.random.default_rng(7)
    found = 0
    for _ in range(400):
        one, other = (generator.random((40, 5)) < generator.beta(0.9, 0.9, (40, 1)) for _ in range(2))
        differences = (one.astype(float) - other).ravel()
        found += compare_differences(differences, np.repeat(np.arange(40), 5).tolist()).p < 0.05
    assert found / 400 < 0.07


def test_lengths_are_balanced_in_the_difference_too() -> None:
    """ "good" is longer than "bad", so pairs of the other kind have to be made."""
    items = [item("a"), item("b"), turned(item("c")), turned(item("d"))]
    longest, shortest = [RIGHT, RIGHT, WRONG, WRONG], [WRONG, WRONG, RIGHT, RIGHT]
    named = [RewardGrades("b", "x", grade("preference", items, given)) for given in (longest, shortest, [RIGHT] * 4)]
    first, second, _ = compare_pairs(list(combinations(named, 2)))
    assert known(first.length_balanced_difference).value == 0
    assert known(second.length_balanced_difference).value == -0.5
    assert second.difference.value == -0.5


def test_a_reward_that_never_answered_is_compared_with_nothing() -> None:
    a, b = grades_of("a", *[RIGHT] * 12), grades_of("b", *[WRONG] * 12)
    silent = grades_of("silent", *[UNSCORED] * 12)
    assert compare_pairs([(a, silent), (a, b), (silent, b)]) == compare_pairs([(a, b)])


@pytest.mark.parametrize(("up", "down"), [(1, 0), (3, 3), (7, 19), (0, 40), (4_100, 3_900)])
def test_the_exact_test_is_that_of_a_fair_coin(up: int, down: int) -> None:
    differences = [1.0] * up + [-1.0] * down + [0.0] * 5
    found = compare_differences(differences, range(len(differences)))
    assert found.name == MCNEMAR
    assert found.p == pytest.approx(binomtest(up, up + down).pvalue)
