"""Intervals and tests against values computed by hand, and against scipy's own."""

import numpy as np
import pytest
from scipy import stats

from flip_reward.evaluation.statistics import (
    Quantity,
    correct_holm,
    estimate_combination,
    estimate_mean,
    estimate_mean_of_strata,
)


def test_the_interval_of_a_mean_is_that_of_scipys_bootstrap() -> None:
    for values in ([1.0] * 130 + [0.0] * 70, list(np.random.default_rng(1).normal(size=200))):
        ours = estimate_mean(values, ["a"] * len(values))
        theirs = stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=20_000, rng=2
        ).confidence_interval
        assert ours.value == pytest.approx(np.mean(values))
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)
        assert ours.n == 200


def test_few_and_many_values_are_drawn_from_the_same_distribution() -> None:
    """One path counts values, the other draws items; noise too small to matter sends the same values down both."""
    few = np.array([1.0] * 60 + [0.5] * 20 + [0.0] * 40)
    one, other = (estimate_mean(values, ["a"] * 120) for values in (few, few + np.arange(120) * 1e-9))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.005)
    assert one.high - one.low == pytest.approx(2 * 1.96 * few.std() / np.sqrt(119), rel=0.05)


def test_items_are_drawn_within_their_stratum() -> None:
    """What strata differ by is not left to chance."""
    values = [1.0] * 45 + [0.0] * 5 + [1.0] * 5 + [0.0] * 45
    within, all_alike = (estimate_mean(values, strata) for strata in (["a"] * 50 + ["b"] * 50, ["a"] * 100))
    assert within.high - within.low < 0.65 * (all_alike.high - all_alike.low)


def test_the_mean_of_strata_counts_every_stratum_the_same() -> None:
    values, strata = [1, 1, 1, 0], ["a", "a", "a", "b"]
    assert estimate_mean_of_strata(values, strata).value == 0.5
    wide = estimate_mean_of_strata([1, 0, 1, 0] + [1, 0] * 500, ["a"] * 4 + ["b"] * 1000)
    assert wide.high - wide.low > 0.4, "the four items of the small stratum count for one half"


def test_the_same_values_give_the_same_interval() -> None:
    values = [0.0, 1.0, 0.5] * 20
    assert estimate_mean(values, ["a"] * 60) == estimate_mean(values, ["a"] * 60)


def test_items_of_a_prompt_are_drawn_together() -> None:
    """Copies of the same grade add nothing."""
    once = np.array([1.0] * 60 + [0.0] * 40)
    copied = estimate_mean(np.repeat(once, 4), ["a"] * 400, np.repeat(np.arange(100), 4).tolist())
    alone = estimate_mean(once, ["a"] * 100)
    assert copied.value == pytest.approx(alone.value)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.012)


def test_a_prompt_that_spans_strata_is_drawn_as_a_whole() -> None:
    """Its copies in another stratum add nothing, and opposite grades there leave nothing to chance."""
    once = np.array([1.0] * 60 + [0.0] * 40)
    strata, prompts = ["a"] * 100 + ["b"] * 100, [*range(100), *range(100)]
    alike = estimate_mean([*once, *once], strata, prompts)
    assert alike.high - alike.low == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 99), rel=0.05)
    opposite = estimate_mean([*once, *(1 - once)], strata, prompts)
    assert opposite.low <= 0.5 <= opposite.high
    assert opposite.high - opposite.low < 0.05


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("prompts", [10, 30])
def test_prompts_whose_items_have_nothing_in_common_are_worth_more(prompts: int, accuracy: float) -> None:
    """Imaginary prompts weigh less than ten items then."""
    grades = np.random.default_rng(4).permutation(np.arange(prompts * 10) < accuracy * prompts * 10) * 1.0
    shared = estimate_mean(grades, ["a"] * len(grades), np.repeat(np.arange(prompts), 10).tolist())
    alone = estimate_mean(grades, ["a"] * len(grades))
    assert shared.high - shared.low < 2 * (alone.high - alone.low)


@pytest.mark.parametrize("value", [0.1, 0.25, 1 / 3, 0.7])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_equal_grades_have_an_interval_whatever_their_fraction(n: int, value: float) -> None:
    """Their mean by floating point is not quite what each of them is."""
    found = estimate_mean([value] * n, ["a"] * n)
    assert found.high - found.low > 0.5 / n
    assert found.low < value < found.high


def test_two_equal_numbers_do_not_prove_a_difference() -> None:
    few, many = (estimate_mean([0.1] * n, ["a"] * n, quantity=Quantity.NUMBER) for n in (2, 20))
    assert few.low < 0 < few.high
    assert 0 < many.low < 0.1 < many.high


@pytest.mark.parametrize("n", [2, 5, 10, 46, 1000])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_few_items_that_agree_prove_little(n: int, value: float) -> None:
    found = estimate_mean([value] * n, ["a"] * n)
    far = found.high if value == 0 else 1 - found.low
    assert found.value == value
    assert 0 <= found.low <= found.high <= 1
    assert 2 / (n + 1) < far, "the rule of three, which holds for many"
    assert estimate_mean([0.0] * n, ["a"] * n, quantity=Quantity.DIFFERENCE).high > 0


@pytest.mark.parametrize(("n", "p"), [(10, 0.5), (10, 0.95), (20, 0.8), (20, 0.95), (50, 0.95), (200, 0.95)])
def test_coverage_by_the_binomial_distribution(n: int, p: float) -> None:
    """The percentile bootstrap has 0.40 at 10 and .95."""
    held = 0.0
    for right in range(n + 1):
        found = estimate_mean([1.0] * right + [0.0] * (n - right), ["a"] * n)
        held += stats.binom.pmf(right, n, p) * (found.low <= p <= found.high)
    assert held > 0.93


def test_a_stratum_of_few_items_with_much_weight_makes_the_interval_wide() -> None:
    values, strata = [1, 1, 0] + [1, 0] * 50, ["small"] * 3 + ["large"] * 100
    small, large = (
        estimate_combination(values, strata, {"small": weight, "large": 1 - weight}) for weight in (0.5, 0.03)
    )
    assert small.high - small.low > 2 * (large.high - large.low)


def test_strata_of_one_item_each_are_measured_from_the_mean_of_all() -> None:
    grades = [1.0, 0.0] * 20
    each = estimate_mean(grades, [str(number) for number in range(40)])
    together = estimate_mean(grades, ["a"] * 40)
    assert (each.low, each.high) == pytest.approx((together.low, together.high), abs=0.02)


def test_few_numbers_have_students_interval() -> None:
    numbers = [3.0, 5.0, 4.0, 9.0, 7.0]
    found = estimate_mean(numbers, ["a"] * 5, quantity=Quantity.NUMBER)
    expected = stats.t.interval(0.95, 4, np.mean(numbers), stats.sem(numbers))
    assert (found.low, found.high) == pytest.approx(expected)


def test_holm() -> None:
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.6, 0.7]) == [1.0, 1.0]
    assert correct_holm([0.2]) == [0.2]
    assert correct_holm([]) == []
