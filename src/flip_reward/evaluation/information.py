"""Whether rewards say anything about labels: the AUC, its interval, and a refusal where that includes 0.5.

Intervals are over prompts, since the labels of one prompt are not independent. numpy and scipy are imported inside
the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from flip_reward.errors import DataError
from flip_reward.evaluation.statistics import CONFIDENCE, Estimate
from flip_reward.rewards.calibration import LabelledRewards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flip_reward.evaluation.statistics import Values

    Flags = NDArray[np.bool_]
    Numbers = NDArray[np.intp]

POWER = 0.8
"""How often the number of labels that would be needed to see something shows it."""
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_MOST_NEEDED = 1_000_000
_DIGITS = 12  # sums of the same numbers differ in later ones


@dataclass(frozen=True, slots=True)
class Information:
    """What rewards say about labels."""

    auc: Estimate
    labels_needed: int | None
    """About how many labels would show, in 4 of 5 cases, that it is not 0.5; None where a million would not."""


@dataclass(frozen=True, slots=True)
class LabelArrays:
    """Labelled rewards as arrays; prompts are numbers from 0."""

    rewards: Values
    good: Flags
    prompts: Numbers

    @classmethod
    def of(cls, labelled: LabelledRewards) -> LabelArrays:
        """Make arrays of labels."""
        import numpy as np

        numbers: dict[str, int] = {}
        places = np.asarray([numbers.setdefault(prompt, len(numbers)) for prompt in labelled.prompts])
        return cls(np.asarray(labelled.rewards, np.float64), np.asarray(labelled.good, np.bool_), places)

    @property
    def clusters(self) -> int:
        """How many prompts there are."""
        return int(self.prompts.max()) + 1

    def only(self, which: Numbers) -> LabelArrays:
        """Return some of the labels."""
        return LabelArrays(self.rewards[which], self.good[which], self.prompts[which])


def measure_information(labelled: LabelledRewards) -> Information:
    """Measure how well rewards tell good responses from bad ones.

    The interval of the AUC is that of DeLong et al. (1988) for independent labels, and of Obuchowski (1997) for those
    that share prompts: on the logit scale, by t with the number of prompts less 1. Where no good response has a lower
    reward than a bad one, it is method 5 of Newcombe (2006), which needs no spread.
    """
    import numpy as np
    from scipy.stats import t

    data = LabelArrays.of(labelled)
    up, down = data.rewards[data.good], data.rewards[~data.good]
    above, below = _share_below(up, down), 1 - _share_below(down, up)
    auc, labels = round(float(above.mean()), _DIGITS), len(labelled.good)
    influence = np.zeros(labels)
    influence[data.good] = (above - auc) / len(up)
    influence[~data.good] = (below - auc) / len(down)
    clusters = data.clusters
    each = np.bincount(data.prompts, influence)
    error = math.sqrt(clusters / max(clusters - 1, 1) * float(each @ each))
    if round(error, _DIGITS) == 0 or auc in (0.0, 1.0):
        sides = len(np.unique(data.prompts[data.good])), len(np.unique(data.prompts[~data.good]))
        return Information(_separated(auc, *sides, labels), None)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, max(clusters - 1, 1)))
    logit, spread = math.log(auc / (1 - auc)), error / (auc * (1 - auc))
    low, high = (1 / (1 + math.exp(-(logit + side * quantile * spread))) for side in (-1, 1))
    needed = math.inf
    if logit:
        needed = labels * ((Z + NormalDist().inv_cdf(POWER)) * spread / logit) ** 2
    return Information(Estimate(auc, low, high, labels), math.ceil(needed) if needed < _MOST_NEEDED else None)


def _share_below(values: Values, others: Values) -> Values:
    """For each value the share of others that are lower, ties counting half."""
    import numpy as np

    ordered = np.sort(others)
    found = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    shares: Values = found / (2 * len(others))
    return shares


def _separated(auc: float, good: int, bad: int, labels: int) -> Estimate:
    """The interval of an AUC without spread: 0 or 1, or 0.5 of rewards that are all the same."""
    from scipy.optimize import brentq

    if auc not in (0.0, 1.0):
        return Estimate(auc, 0.0, 1.0, labels)
    half = (good + bad) / 2 - 1

    def miss(true: float) -> float:
        spread = true * (1 - true) * (1 + half * (1 - true) / (2 - true) + half * true / (1 + true)) / (good * bad)
        return 1 - true - Z * math.sqrt(spread)

    low = float(brentq(miss, 1e-9, 1 - 1e-12))
    return Estimate(1.0, low, 1.0, labels) if auc else Estimate(0.0, 0.0, 1 - low, labels)


def check_information(found: Information) -> None:
    """Refuse rewards without information about labels, or with the opposite of what they should say."""
    auc = found.auc
    shown = f"AUC {auc.value:.3f}, {auc.low:.3f} to {auc.high:.3f}"
    if auc.high < 0.5:
        raise DataError(
            f"the rewards are the wrong way round: bad responses have the higher ones ({shown})",
            hint="make sure that the labels are not; a map that turns rewards round would be learnt from an accident",
        )
    if auc.low <= 0.5:
        enough = (
            f"it would take more than a million labels to show an AUC of {auc.value:.3f}"
            if found.labels_needed is None
            else f"if the AUC is {auc.value:.3f}, about {found.labels_needed:,} labels would show it in 4 of 5 cases"
        )
        raise DataError(
            f"the rewards carry no information about the {auc.n} labels, as far as these tell: the interval of the "
            f"AUC includes 0.5 ({shown})",
            hint=enough,
        )
