"""Maps that are known are found again, with figures that are of labels that the map was not fitted to."""

import json
from pathlib import Path

import numpy as np
import pytest

from flip_reward.errors import DataError
from flip_reward.evaluation.calibration import (
    PRECISION,
    FittedCalibration,
    Method,
    describe_precision,
    fit_calibration,
)
from flip_reward.rewards.calibration import Calibration, IsotonicMap, LabelledRewards, LogisticMap
from tests.unit.evaluation.labelled import draw, logistic, make_labels


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def fitted() -> FittedCalibration:
    return fit_calibration(draw(generator(), 2000, 2.0))


def test_a_logistic_map_is_found_again(fitted: FittedCalibration) -> None:
    assert isinstance(fitted.curve, LogisticMap)
    assert fitted.curve.slope == pytest.approx(2.0, abs=0.25)
    assert fitted.curve.intercept == pytest.approx(0.0, abs=0.2)
    true = [float(logistic(np.asarray(2.0 * point.reward))) for point in fitted.figures.points]
    inside = [point.low <= value <= point.high for point, value in zip(fitted.figures.points, true, strict=True)]
    assert sum(inside) / len(inside) > 0.8
    assert fitted.figures.calibration_error < 0.05
    assert fitted.figures.brier_before is None  # the rewards are no probabilities


def test_a_step_takes_an_isotonic_map() -> None:
    source = generator()
    rewards = source.uniform(size=1000)
    labelled = make_labels(rewards, np.where(rewards > 0.8, 0.95, np.where(rewards > 0.3, 0.5, 0.05)), source)
    found = fit_calibration(labelled)
    assert isinstance(found.curve, IsotonicMap)
    for reward, expected in ((0.1, 0.05), (0.55, 0.5), (0.95, 0.95)):
        assert found.curve.apply(reward) == pytest.approx(expected, abs=0.12)
    assert 0 < found.curve.apply(-5.0) < found.curve.apply(5.0) < 1
    before = found.figures.calibration_error_before
    assert before is not None
    assert found.figures.calibration_error < before
    assert found.figures.log_loss["isotonic"] < found.figures.log_loss["logistic"] < found.figures.log_loss["none"]


@pytest.mark.parametrize("method", [Method.ISOTONIC, Method.LOGISTIC])
def test_maps_never_fall_and_the_file_is_the_map(method: Method, tmp_path: Path) -> None:
    labelled = draw(generator(), 120, 1.5, per_prompt=4)
    found = fit_calibration(labelled, method)
    (tmp_path / "map.json").write_text(found.model_dump_json())
    read = Calibration.read(tmp_path / "map.json")
    rewards = np.linspace(-10, 10, 301).tolist()
    values = [read.curve.apply(reward) for reward in rewards]
    assert values == [found.curve.apply(reward) for reward in rewards]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert read.name == found.name
    assert read.lowest == min(labelled.rewards)


def test_a_map_is_measured_on_prompts_that_it_was_not_fitted_to() -> None:
    """Each prompt has a reward of its own and labels that are all alike: known prompts would tell everything."""
    source = generator()
    tops = source.random(60)
    rewards = np.repeat(source.normal(size=60), 5)
    labelled = make_labels(rewards, np.repeat(tops > 0.5, 5).astype(float), source)
    labelled.prompts = [str(number // 5) for number in range(300)]
    labelled.rewards = (rewards + 0.8 * np.repeat(tops > 0.5, 5)).tolist()
    figures = fit_calibration(labelled, Method.ISOTONIC).figures
    alone = LabelledRewards({}, labelled.rewards, labelled.good, [str(number) for number in range(300)])
    assert figures.log_loss["isotonic"] > 1.05 * fit_calibration(alone, Method.ISOTONIC).figures.log_loss["isotonic"]
    assert figures.prompts == 60


def test_bins_are_of_all_labels_and_their_intervals_hold_the_shares(fitted: FittedCalibration) -> None:
    bins = fitted.figures.bins
    assert len(bins) == 10
    assert sum(one.labels for one in bins) == fitted.figures.labels == 2000
    assert round(sum(one.labels * one.good for one in bins)) == fitted.figures.good
    assert all(one.low <= one.good <= one.high for one in bins)
    assert sum(one.low <= one.probability <= one.high for one in bins) >= 8
    assert [one.probability for one in bins] == sorted(one.probability for one in bins)


def test_a_bin_may_hold_a_good_and_a_bad_response_of_every_prompt() -> None:
    ease = np.repeat([*range(10), *range(50, 60)], 2)
    labelled = LabelledRewards({}, prompts=[str(number // 2) for number in range(40)])
    labelled.rewards = (ease + np.tile([3.5, 0.0, 0.5, 0.0], 10)).tolist()
    labelled.good = [True, False] * 20
    bins = fit_calibration(labelled).figures.bins
    assert any(one.good == 0.5 for one in bins)
    assert all(one.low < one.good < one.high for one in bins)


def test_the_width_is_of_all_labelled_responses_however_many_share_a_reward() -> None:
    source = generator()
    rewards = np.where(source.random(400) < 0.9, 0.0, source.normal(size=400))
    figures = fit_calibration(make_labels(rewards, logistic(2 * rewards), source), Method.LOGISTIC).figures
    [common] = [(one.high - one.low) / 2 for one in figures.points if one.reward == 0]
    assert figures.half_width == pytest.approx(common, abs=0.02)


@pytest.mark.parametrize("method", [Method.ISOTONIC, Method.LOGISTIC])
def test_as_many_labels_as_it_says_give_that_precision(method: Method) -> None:
    source = generator()
    first = fit_calibration(draw(source, 300, 1.0), method).figures
    assert first.half_width > PRECISION
    assert f"{first.labels_for_precision:,} labels" in describe_precision(first)
    again = fit_calibration(draw(source, first.labels_for_precision, 1.0), method).figures
    assert again.half_width == pytest.approx(PRECISION, rel=0.25)


def labelled_with(good: int, bad: int, *, reward: float = 1.0, prompts: int = 1000) -> LabelledRewards:
    """Good responses have a reward, bad ones none."""
    labels = [True] * good + [False] * bad
    names = [str(number % prompts) for number in range(good + bad)]
    return LabelledRewards({}, [reward * label for label in labels], labels, names)


@pytest.mark.parametrize(
    ("labelled", "named"),
    [
        (labelled_with(10, 19), "29 labels"),
        (labelled_with(0, 40), "all 40 labels are bad"),
        (labelled_with(40, 0), "all 40 labels are good"),
        (labelled_with(36, 4), "4 of 40 labels are bad, of responses to 4 prompts"),
        (labelled_with(20, 20, prompts=9), "9 prompts"),
        (
            LabelledRewards(
                {}, [1.0] * 20 + [0.0] * 20, [True] * 20 + [False] * 20, ["p"] * 20 + [*map(str, range(20))]
            ),
            "20 of 40 labels are good, of responses to 1 prompt:",
        ),
        (labelled_with(20, 20, reward=0.0), "is 0 for every"),
        (LabelledRewards({}), "0 labels"),
    ],
)
def test_labels_that_tell_too_little(labelled: LabelledRewards, named: str) -> None:
    with pytest.raises(DataError, match=named):
        fit_calibration(labelled)


def test_rewards_that_tell_everything_make_no_probability_sure() -> None:
    for method in (Method.LOGISTIC, Method.ISOTONIC):
        curve = fit_calibration(labelled_with(20, 20), method).curve
        assert 0.5 < curve.apply(1.0) < 1
        assert 0 < curve.apply(0.0) < 0.5


def test_a_logistic_map_that_would_fall_is_refused() -> None:
    rewards = [*map(float, range(40)), 1e6]
    labelled = LabelledRewards({}, rewards, [number >= 20 for number in range(40)] + [False], [*map(str, range(41))])
    with pytest.raises(DataError, match="would fall"):
        fit_calibration(labelled, Method.LOGISTIC)
    assert fit_calibration(labelled).curve.method == "isotonic"


def test_the_file_has_the_figures_as_plain_json(fitted: FittedCalibration) -> None:
    found = json.loads(fitted.model_dump_json())
    assert found["reward"] == {"reward": "known"}
    assert {"auc", "bins", "points", "labels_for_precision"} <= found["figures"].keys()
