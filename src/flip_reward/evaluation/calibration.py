"""A map from rewards to the probability of being good, fitted to labels, and how good the map is.

Every figure about a map is of predictions for labels that it was not fitted to, and labels of one prompt are never on
both sides. Intervals are over prompts, since the labels of one prompt are not independent.

numpy, scipy and scikit-learn are imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from flip_reward.errors import DataError, MissingDependencyError
from flip_reward.evaluation.information import LabelArrays, Z, check_information, measure_information
from flip_reward.evaluation.statistics import CONFIDENCE, SEED, Estimate
from flip_reward.rewards.calibration import Calibration, IsotonicMap, LabelledRewards, LogisticMap

if TYPE_CHECKING:
    from flip_reward.evaluation.information import Flags, Numbers
    from flip_reward.evaluation.statistics import Values

FEWEST_LABELS = 30
FEWEST_OF_EACH = 5
"""Prompts with a good response, and with a bad one."""
FEWEST_PROMPTS = 10
PRECISION = 0.05
"""How sure a probability is that is sure enough: the half width of its interval."""

_FOLDS = 5
_REFITS = 400
_MOST_BINS = 10
_LABELS_A_BIN = 15
_PLACES = 50


class Method(StrEnum):
    """The kind of map."""

    AUTO = "auto"
    """Logistic, unless isotonic has the lower cross-validated log loss by more than the standard error of that."""
    LOGISTIC = "logistic"
    ISOTONIC = "isotonic"


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReliabilityBin(_Figures):
    """Labels whose responses have about the same probability, and how many of them are good."""

    probability: float
    """The mean of what was predicted."""
    labels: int
    good: float
    """The share of good ones, with its interval (Wilson 1927, by the effective number of labels) in the next two."""
    low: float
    high: float


class CurvePoint(_Figures):
    """The probability for a reward, and its interval: the bootstrap over prompts."""

    reward: float
    probability: float
    low: float
    high: float


class CalibrationFigures(_Figures):
    """How good a calibration is, measured on labels that it was not fitted to."""

    labels: int
    good: int
    prompts: int
    auc: Estimate
    """The chance that a good response has a higher reward than a bad one, ties counting half."""
    log_loss: dict[str, float]
    """Of each kind of map, and as "none" of the share of good labels alone, in nats a label."""
    brier: float
    """The mean squared difference of probability and label."""
    brier_before: float | None
    """Of the rewards as they are; None where they are not within 0 to 1."""
    calibration_error: float
    """The mean difference of probability and share of good labels over the bins, by their labels."""
    calibration_error_before: float | None
    half_width: float
    """Of the interval of a probability, on average over the labelled responses."""
    labels_for_precision: int
    """About how many labels would make that `PRECISION`."""
    bins: list[ReliabilityBin]
    points: list[CurvePoint]
    """At the quantiles of the labelled rewards."""


class FittedCalibration(Calibration):
    """A calibration with the figures about it, as its file holds them."""

    figures: CalibrationFigures


def describe_precision(figures: CalibrationFigures) -> str:
    """Say how sure the probabilities are, and how many labels would make them surer."""
    said = f"Probabilities are known to ±{figures.half_width:.2f} on average (95 %)"
    if figures.half_width <= PRECISION:
        return said
    return f"{said}; about {figures.labels_for_precision:,} labels would make that ±{PRECISION:.2f}"


def check_libraries() -> None:
    """Raise a MissingDependencyError where scikit-learn is missing: before the labels are read."""
    if find_spec("sklearn") is None:  # numpy and scipy come with it
        raise MissingDependencyError("scikit-learn", extra="calibrate")


def fit_calibration(labelled: LabelledRewards, method: Method = Method.AUTO) -> FittedCalibration:
    """Fit a map from rewards to the probability of being good.

    Raises:
        DataError: There are too few labels, or of one class; or the rewards carry no information about them.
        MissingDependencyError: scikit-learn is not installed.
    """
    import numpy as np

    check_libraries()
    _check_labels(labelled)
    information = measure_information(labelled)
    check_information(information)
    data = LabelArrays.of(labelled)
    predicted = {one: _cross_validate(data, one) for one in (Method.LOGISTIC, Method.ISOTONIC)}
    chosen = _choose(data, predicted) if method is Method.AUTO else method
    curve = _fit(chosen, data, np.ones(len(data.good)))
    if curve is None:
        raise DataError(
            "a logistic map would fall, though good responses have the higher rewards more often",
            hint="a few very high or low rewards turn it round; take --method isotonic",
        )
    figures = _measure(data, predicted, chosen, _draw_curve(data, chosen, curve), information.auc)
    lowest, highest = float(data.rewards.min()), float(data.rewards.max())
    return FittedCalibration(
        reward=dict(labelled.settings), curve=curve, lowest=lowest, highest=highest, figures=figures
    )


def _check_labels(labelled: LabelledRewards) -> None:
    count, of_good, different = len(labelled.good), sum(labelled.good), len(set(labelled.prompts))
    if count < FEWEST_LABELS:
        raise DataError(
            f"there are {count} labels of scored responses, and a calibration takes at least {FEWEST_LABELS}",
            hint="label more responses; a few hundred give useful probabilities",
        )
    for kind, number, word, other in ((True, of_good, "good", "bad"), (False, count - of_good, "bad", "good")):
        if number == 0:
            raise DataError(
                f"all {count} labels are {other}: nothing tells what a {word} response looks like",
                hint="label some of both kinds; for grades --good says from which one on a response is good",
            )
        among = len({prompt for prompt, good in zip(labelled.prompts, labelled.good, strict=True) if good == kind})
        if among < FEWEST_OF_EACH:
            raise DataError(
                f"{number} of {count} labels are {word}, of responses to {among} "
                f"prompt{'s' * (among != 1)}: at least {FEWEST_OF_EACH} prompts are needed"
            )
    if different < FEWEST_PROMPTS:
        raise DataError(
            f"the {count} labels are of responses to {different} prompts, and at least {FEWEST_PROMPTS} are needed",
            hint="a map from so few prompts says nothing about others",
        )
    if min(labelled.rewards) == max(labelled.rewards):
        raise DataError(
            f"the reward is {labelled.rewards[0]:g} for every labelled response: it carries no information"
        )


def _measure(
    data: LabelArrays, predicted: Mapping[Method, Values], chosen: Method, points: list[CurvePoint], auc: Estimate
) -> CalibrationFigures:
    import numpy as np

    widths = [(point.high - point.low) / 2 for point in points]
    half_width = float(np.interp(_find_places(data), [point.reward for point in points], widths).mean())
    # The width of a logistic map's interval falls with the square root of the labels, of an isotonic one's with the
    # cube root.
    rate = 3 if chosen is Method.ISOTONIC else 2
    bins = _make_bins(data, predicted[chosen])
    before = data.rewards if data.rewards.min() >= 0 and data.rewards.max() <= 1 else None
    share = np.full(len(data.good), data.good.mean())
    return CalibrationFigures(
        labels=len(data.good),
        good=int(data.good.sum()),
        prompts=data.clusters,
        auc=auc,
        log_loss={
            **{str(one): float(_log_losses(data.good, of).mean()) for one, of in predicted.items()},
            "none": float(_log_losses(data.good, share).mean()),
        },
        brier=_brier(data.good, predicted[chosen]),
        brier_before=None if before is None else _brier(data.good, before),
        calibration_error=_calibration_error(bins),
        calibration_error_before=None if before is None else _calibration_error(_make_bins(data, before)),
        half_width=half_width,
        labels_for_precision=math.ceil(len(data.good) * (half_width / PRECISION) ** rate),
        bins=bins,
        points=points,
    )


def _cross_validate(data: LabelArrays, method: Method) -> Values:
    """Predict each label by a map fitted to those of other prompts."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    predicted = np.empty(len(data.good))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=SEED)
    for learned, held_out in folds.split(data.rewards, data.good, data.prompts):
        curve = _fit(method, data.only(learned), np.ones(len(learned)))
        predicted[held_out] = _predict(curve, data, data.rewards[held_out])
    return predicted


def _predict(curve: LogisticMap | IsotonicMap | None, data: LabelArrays, rewards: Values) -> Values:
    import numpy as np

    if curve is None:
        return np.full(len(rewards), data.good.mean())
    if isinstance(curve, IsotonicMap):
        return np.interp(rewards, curve.rewards, curve.probabilities)
    from scipy.special import expit

    probabilities: Values = expit(curve.slope * rewards + curve.intercept)
    return probabilities


def _fit(method: Method, data: LabelArrays, weights: Values) -> LogisticMap | IsotonicMap | None:
    """Fit a map; None where a logistic one would not rise."""
    fit = _fit_isotonic if method is Method.ISOTONIC else _fit_logistic
    return fit(data.rewards, data.good, weights)


def _fit_logistic(rewards: Values, good: Flags, weights: Values) -> LogisticMap | None:
    """Fit by maximum likelihood to Platt's targets, which are a little less than sure, so that there is a maximum."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    of_good, of_bad = float(weights[good].sum()), float(weights[~good].sum())
    targets = np.where(good, (of_good + 1) / (of_good + 2), 1 / (of_bad + 2))
    centre, scale = float(rewards.mean()), float(rewards.std()) or 1.0
    standard = np.tile((rewards - centre) / scale, 2)[:, None]
    sides = np.repeat([1, 0], len(good))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky")
    model.fit(standard, sides, np.concatenate([weights * targets, weights * (1 - targets)]))
    slope = float(model.coef_[0, 0]) / scale
    return LogisticMap(slope=slope, intercept=float(model.intercept_[0]) - slope * centre) if slope > 0 else None


def _fit_isotonic(rewards: Values, good: Flags, weights: Values) -> IsotonicMap:
    """Fit an isotonic regression, each level of which becomes a point at the mean of its rewards.

    Straight lines between the levels keep apart what steps would make equal (centered isotonic regression, Oron and
    Flournoy 2017). No probability is surer than a last of one more than the labels.
    """
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    used = weights > 0
    rewards, good, weights = rewards[used], good[used], weights[used]
    least = 1 / (float(weights.sum()) + 2)
    regression = IsotonicRegression(y_min=least, y_max=1 - least).fit(rewards, good, sample_weight=weights)
    levels = regression.predict(rewards)
    distinct, where = np.unique(levels, return_inverse=True)
    centres = np.bincount(where, weights * rewards) / np.bincount(where, weights)
    apart = np.concatenate([[True], np.diff(centres) > 0])
    return IsotonicMap(rewards=tuple(centres[apart].tolist()), probabilities=tuple(distinct[apart].tolist()))


def _choose(data: LabelArrays, predicted: Mapping[Method, Values]) -> Method:
    """Take the simpler map unless it would fall, or the other one is clearly better."""
    import numpy as np

    if _fit(Method.LOGISTIC, data, np.ones(len(data.good))) is None:
        return Method.ISOTONIC
    logistic, isotonic = (_log_losses(data.good, predicted[one]) for one in (Method.LOGISTIC, Method.ISOTONIC))
    gain = logistic - isotonic
    each = np.bincount(data.prompts, gain - gain.mean())
    error = math.sqrt(float(each @ each)) / len(gain)
    return Method.ISOTONIC if gain.mean() > error else Method.LOGISTIC


def _log_losses(good: Flags, probabilities: Values) -> Values:
    import numpy as np

    losses: Values = -np.log(np.clip(np.where(good, probabilities, 1 - probabilities), 1e-15, None))
    return losses


def _brier(good: Flags, probabilities: Values) -> float:
    import numpy as np

    return float(np.mean((probabilities - good) ** 2))


def _make_bins(data: LabelArrays, probabilities: Values) -> list[ReliabilityBin]:
    """Sort labels into bins of about the same number, up to ten, by what was predicted; equal ones are together."""
    import numpy as np

    good, prompts = data.good, data.prompts
    count = min(max(len(good) // _LABELS_A_BIN, 2), _MOST_BINS)
    edges = np.unique(np.quantile(probabilities, np.arange(1, count) / count))
    places = np.searchsorted(edges, probabilities, side="right")
    found = []
    for place in np.unique(places):
        inside = places == place
        share = float(good[inside].mean())
        low, high = _wilson(share, _effective(good[inside], prompts[inside]))
        mean = float(probabilities[inside].mean())
        found.append(ReliabilityBin(probability=mean, labels=int(inside.sum()), good=share, low=low, high=high))
    return found


def _effective(good: Flags, prompts: Numbers) -> float:
    """How many independent labels these are worth, at most their number: labels of one prompt are alike."""
    import numpy as np

    share = good.mean()
    alone = float(share * (1 - share) * len(good))
    each = np.bincount(prompts, good - share)
    return len(good) * alone / max(float(each @ each), alone) if alone else float(len(np.unique(prompts)))


def _wilson(share: float, number: float) -> tuple[float, float]:
    middle = (share + Z**2 / (2 * number)) / (1 + Z**2 / number)
    reach = Z / (1 + Z**2 / number) * math.sqrt(share * (1 - share) / number + Z**2 / (4 * number**2))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    total = sum(one.labels for one in bins)
    return sum(one.labels / total * abs(one.probability - one.good) for one in bins)


def _find_places(data: LabelArrays) -> Values:
    """Rewards that stand for as many labelled responses each; equal ones come several times."""
    import numpy as np

    places: Values = np.quantile(data.rewards, (np.arange(_PLACES) + 0.5) / _PLACES)
    return places


def _draw_curve(data: LabelArrays, method: Method, curve: LogisticMap | IsotonicMap) -> list[CurvePoint]:
    """Follow the map along the labelled rewards, with intervals from maps that are fitted to resampled prompts."""
    import numpy as np

    places = np.unique(_find_places(data))
    generator = np.random.default_rng(SEED)
    clusters = data.clusters
    refitted = []
    for _ in range(_REFITS):
        times = generator.multinomial(clusters, np.full(clusters, 1 / clusters)).astype(np.float64)
        again = _fit(method, data, times[data.prompts])
        refitted.append(_predict(again, data, places))
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(np.asarray(refitted), [tail, 1 - tail], axis=0)
    values = _predict(curve, data, places)
    columns = zip(places.tolist(), values.tolist(), lows.tolist(), highs.tolist(), strict=True)
    return [
        CurvePoint(reward=reward, probability=value, low=min(low, value), high=max(high, value))
        for reward, value, low, high in columns
    ]
