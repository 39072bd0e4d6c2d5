import pytest

from flip_reward.report.evaluation.statistics import Decision, bin_by_quintile, count_rewards, decide, wilson_interval


@pytest.mark.parametrize(
    ("credit", "decision"),
    [
        (1.0, Decision.RIGHT),
        (0.0, Decision.WRONG),
        (0.5, Decision.TIED),
        (1 / 3, Decision.TIED),
        (None, Decision.UNSCORED),
    ],
)
def test_decisions(credit: float | None, decision: Decision) -> None:
    assert decide(credit) is decision


def test_fifths_hold_a_fifth_of_the_items_each() -> None:
    fifths = bin_by_quintile(list(range(100)), [1.0] * 100, range(100))
    assert [(fifth.low, fifth.high, fifth.items) for fifth in fifths] == [
        (0, 19, 20), (20, 39, 20), (40, 59, 20), (60, 79, 20), (80, 99, 20),
    ]  # fmt: skip


def test_items_of_equal_length_stay_together() -> None:
    assert [fifth.items for fifth in bin_by_quintile([7] * 10, [1.0] * 10, range(10))] == [10]
    assert [fifth.items for fifth in bin_by_quintile([1, 1, 1, 1, 9], [1.0] * 5, range(5))] == [4, 1]


def test_unscored_items_count_for_the_fifths_but_not_in_them() -> None:
    first, *_, last = bin_by_quintile([1, 2, 3, 4, 5], [None, 1.0, 1.0, 1.0, 0.5], range(5))
    assert (first.items, first.interval) == (0, None)
    assert (last.items, last.right) == (1, 0.5)
    assert bin_by_quintile([], [], []) == []


def test_items_that_share_a_prompt_are_one_trial() -> None:
    [alone] = bin_by_quintile([7] * 10, [1.0, 0.0] * 5, range(10))
    [shared] = bin_by_quintile([7] * 50, [1.0, 0.0] * 25, [item // 5 for item in range(50)])
    assert (shared.items, shared.right) == (50, 25)
    assert shared.interval == pytest.approx(alone.interval)


def test_wilson_interval() -> None:
    # Brown, Cai and DasGupta (2001): 0 of 10 gives 0 to z^2 / (n + z^2).
    assert wilson_interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)
    assert wilson_interval(0, 0) is None


def test_similarities_get_twenty_bins_from_0_to_1() -> None:
    spread = count_rewards([0.15, 1.0], [0.0, 0.149])
    assert spread is not None
    assert (len(spread.edges), spread.edges[0], spread.edges[-1]) == (21, 0, 1)
    assert [bin_ for bin_, count in enumerate(spread.chosen) if count] == [3, 19]
    assert [bin_ for bin_, count in enumerate(spread.rejected) if count] == [0, 2]


def test_ratings_get_a_bin_each() -> None:
    spread = count_rewards([10.0, 7.0], [1.0])
    assert spread is not None
    assert spread.edges == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5]
    assert spread.chosen == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert spread.rejected == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_other_rewards_get_bins_over_their_range() -> None:
    spread = count_rewards([-3.0], [250.0])
    assert spread is not None
    assert (spread.edges[0], spread.edges[-1]) == (-3, 250)
    same = count_rewards([-3.0], [])
    assert same is not None
    assert (same.edges[0], same.edges[-1], sum(same.chosen)) == (-3.5, -2.5, 1)


def test_means_and_area_under_the_curve() -> None:
    spread = count_rewards([0.2, 0.8], [0.2, 0.4])
    assert spread is not None
    assert spread.chosen_mean == pytest.approx(0.5)
    assert spread.rejected_mean == pytest.approx(0.3)
    # 0.2 ties with 0.2 and loses to 0.4; 0.8 wins twice.
    assert spread.auc == 2.5 / 4


def test_nothing_to_compare() -> None:
    assert count_rewards([], []) is None
    only_chosen = count_rewards([0.5], [])
    assert only_chosen is not None
    assert (only_chosen.auc, only_chosen.rejected_mean) == (None, None)
