"""Whether rewards say anything about labels: intervals that cover, and refusals at the rate that was promised."""

import numpy as np
import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.information import check_information, measure_information
from flip_reward.rewards.calibration import LabelledRewards
from tests.unit.evaluation.labelled import draw

SIMULATED = 1000


def test_auc_by_hand() -> None:
    labelled = LabelledRewards({}, [0.9, 0.5, 0.5, 0.1], [True, True, False, False], list("abcd"))
    found = measure_information(labelled)
    assert found.auc.value == (1 + 1 + 0.5 + 1) / 4
    assert found.auc.low < found.auc.value < found.auc.high
    assert found.auc.n == 4


@pytest.mark.parametrize(
    ("labels", "per_prompt", "difficulty"), [(40, 1, 0.0), (300, 1, 0.0), (300, 5, 1.5)], ids=str
)
def test_rewards_without_information_pass_at_the_nominal_rate(
    labels: int, per_prompt: int, difficulty: float
) -> None:
    generator = np.random.default_rng(1)
    passed = 0
    for _ in range(SIMULATED):
        drawn = draw(generator, labels, 0.0, per_prompt=per_prompt, difficulty=difficulty)
        auc = measure_information(drawn).auc
        passed += auc.low > 0.5 or auc.high < 0.5
    assert passed / SIMULATED <= 0.065


@pytest.mark.parametrize(("slope", "labels"), [(0.5, 60), (2.0, 60), (3.0, 40)])
def test_intervals_cover_the_true_auc(slope: float, labels: int) -> None:
    generator = np.random.default_rng(2)
    true = measure_information(draw(generator, 200_000, slope)).auc.value
    aucs = [measure_information(draw(generator, labels, slope)).auc for _ in range(SIMULATED)]
    assert 0.93 <= sum(auc.low <= true <= auc.high for auc in aucs) / SIMULATED <= 0.98


def test_labels_that_share_a_prompt_are_worth_less() -> None:
    alone = draw(np.random.default_rng(3), 100, 1.0)
    copies = LabelledRewards({}, alone.rewards * 5, alone.good * 5, alone.prompts * 5)
    independent = LabelledRewards({}, copies.rewards, copies.good, [str(number) for number in range(500)])
    one, same, other = (measure_information(each).auc for each in (alone, copies, independent))
    assert (same.low, same.high) == pytest.approx((one.low, one.high))
    assert other.high - other.low < 0.6 * (one.high - one.low)


@pytest.mark.parametrize("reverse", [False, True])
def test_rewards_that_tell_everything_have_an_interval_of_some_width(*, reverse: bool) -> None:
    good = [number >= 15 for number in range(30)]
    rewards = [float(-number if reverse else number) for number in range(30)]
    auc = measure_information(LabelledRewards({}, rewards, good, [str(number) for number in range(30)])).auc
    if reverse:
        assert auc.value == auc.low == 0
        assert 0.02 < auc.high < 0.3
    else:
        assert auc.value == auc.high == 1
        assert 0.7 < auc.low < 0.98


def test_the_number_of_labels_that_would_be_needed_shows_it_in_four_of_five_cases() -> None:
    generator = np.random.default_rng(4)
    slope = 0.4
    needed = measure_information(draw(generator, 100_000, slope)).labels_needed
    assert needed is not None
    shown = [measure_information(draw(generator, needed, slope)).auc.low > 0.5 for _ in range(SIMULATED)]
    assert 0.76 <= sum(shown) / SIMULATED <= 0.86


def test_what_is_refused_is_told() -> None:
    generator = np.random.default_rng(5)
    check_information(measure_information(draw(generator, 200, 2.0)))
    with pytest.raises(DataError, match=r"no information.*includes 0\.5") as refused:
        check_information(measure_information(draw(generator, 200, 0.0)))
    assert "labels" in str(refused.value.hint)
    with pytest.raises(DataError, match="wrong way round"):
        check_information(measure_information(draw(generator, 200, -2.0)))
