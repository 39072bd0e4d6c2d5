import pytest

from flip_reward.report.statistics import describe_rewards


def test_similarities_get_twenty_bins_from_0_to_1() -> None:
    spread = describe_rewards([0.15, 1.0], [0.0, 0.149])
    assert spread is not None
    assert (len(spread.edges), spread.edges[0], spread.edges[-1]) == (21, 0, 1)
    assert [bin_ for bin_, count in enumerate(spread.chosen) if count] == [3, 19]
    assert [bin_ for bin_, count in enumerate(spread.rejected) if count] == [0, 2]


def test_ratings_get_a_bin_each() -> None:
    spread = describe_rewards([10.0, 7.0], [1.0])
    assert spread is not None
    assert spread.edges == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5]
    assert spread.chosen == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert spread.rejected == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_other_rewards_get_bins_over_their_range() -> None:
    spread = describe_rewards([-3.0], [250.0])
    assert spread is not None
    assert (spread.edges[0], spread.edges[-1]) == (-3, 250)
    same = describe_rewards([-3.0], [])
    assert same is not None
    assert (same.edges[0], same.edges[-1], sum(same.chosen)) == (-3.5, -2.5, 1)


def test_means_and_area_under_the_curve() -> None:
    spread = describe_rewards([0.2, 0.8], [0.2, 0.4])
    assert spread is not None
    assert spread.chosen_mean == pytest.approx(0.5)
    assert spread.rejected_mean == pytest.approx(0.3)
    # 0.2 ties with 0.2 and loses to 0.4; 0.8 wins twice.
    assert spread.auc == 2.5 / 4


def test_nothing_to_compare() -> None:
    assert describe_rewards([], []) is None
    only_chosen = describe_rewards([0.5], [])
    assert only_chosen is not None
    assert (only_chosen.auc, only_chosen.rejected_mean) == (None, None)
