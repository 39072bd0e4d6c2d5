import pytest

from flip_reward.report.statistics import Decision, bin_by_quintile, decide, give_credit, wilson_interval


@pytest.mark.parametrize(
    ("rewards", "chosen", "share", "decision"),
    [
        ([0.9, 0.1], [True, False], 1.0, Decision.RIGHT),
        ([0.1, 0.9], [True, False], 0.0, Decision.WRONG),
        ([0.9, 0.9], [True, False], 0.5, Decision.TIED),
        ([0.9, 0.9, 0.9, 0.1], [True, False, False, False], 1 / 3, Decision.TIED),
        ([0.9, 0.9, 0.1], [True, True, False], 1.0, Decision.RIGHT),
        ([0.0, 0.0], [False, False], 0.0, Decision.WRONG),
        ([0.9, None], [True, False], None, Decision.UNSCORED),
        ([], [], None, Decision.UNSCORED),
    ],
)
def test_decisions(rewards: list[float | None], chosen: list[bool], share: float | None, decision: Decision) -> None:
    assert give_credit(rewards, chosen) == share
    assert decide(share) is decision


def test_fifths_hold_a_fifth_of_the_items_each() -> None:
    fifths = bin_by_quintile(list(range(100)), [1.0] * 100)
    assert [(fifth.low, fifth.high, fifth.items) for fifth in fifths] == [
        (0, 19, 20), (20, 39, 20), (40, 59, 20), (60, 79, 20), (80, 99, 20),
    ]  # fmt: skip


def test_items_of_equal_length_stay_together() -> None:
    assert [fifth.items for fifth in bin_by_quintile([7] * 10, [1.0] * 10)] == [10]
    assert [fifth.items for fifth in bin_by_quintile([1, 1, 1, 1, 9], [1.0] * 5)] == [4, 1]


def test_unscored_items_count_for_the_fifths_but_not_in_them() -> None:
    first, *_, last = bin_by_quintile([1, 2, 3, 4, 5], [None, 1.0, 1.0, 1.0, 0.5])
    assert (first.items, first.interval) == (0, None)
    assert (last.items, last.right) == (1, 0.5)
    assert bin_by_quintile([], []) == []


def test_wilson_interval() -> None:
    # Brown, Cai and DasGupta (2001): 0 of 10 gives 0 to z^2 / (n + z^2).
    assert wilson_interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)
    assert wilson_interval(0, 0) is None
