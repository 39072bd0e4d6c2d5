"""What attacks do to rewards, in figures: from the scores of attacked texts and of the genuine ones beside them.

numpy is imported inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.prompts import AuditPrompt, RewardScores
from flip_reward.audit.results import AttackEntry, AttackResult, AuditedReward, CopySlope, SlopePoint
from flip_reward.evaluation.paired import compare_differences
from flip_reward.evaluation.statistics import Estimate, Quantity, correct_holm, estimate_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flip_reward.evaluation.statistics import Codes, Values

    Flags = NDArray[np.bool_]

_NOISE = 1e-12  # of a reward's largest value: sums of the same rewards differ by as much with their order


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of an audit: by reward, by reward and attack, and by reward over the copied share."""

    audited: list[AuditedReward]
    results: list[AttackResult]
    slopes: list[CopySlope]


def measure(
    prompts: Sequence[AuditPrompt],
    attacks: Sequence[AttackEntry],
    scores: Mapping[str, RewardScores],
    outcomes: Mapping[str, Mapping[str, int]] | None = None,
) -> Figures:
    """Measure what every attack did to every reward; `AttackResult` says what each figure is.

    What has no score has no part in any figure, whichever it is; neither has a number that is not finite.

    Args:
        prompts: What was asked.
        attacks: How.
        scores: Those of each reward, by its label, with a mapping for each prompt.
        outcomes: How many texts of each reward had each outcome.
    """
    asked = _Asked(prompts, attacks)
    audited, results, slopes = [], [], []
    for label, given in scores.items():
        reward = _Scored(asked, given)
        counted = dict((outcomes or {}).get(label, {}))
        audited.append(reward.describe(label, counted))
        results += [_measure(asked, reward, place, label) for place in range(len(attacks))]
        slopes += _measure_slope(asked, reward, label)
    return Figures(audited, _correct(results), slopes)


def _correct(results: Sequence[AttackResult]) -> list[AttackResult]:
    tested = [(place, found.p) for place, found in enumerate(results) if found.p is not None]
    corrected = dict(zip([place for place, _ in tested], correct_holm([p for _, p in tested]), strict=True))
    return [found.model_copy(update={"holm_p": corrected.get(place)}) for place, found in enumerate(results)]


class _Texts:
    """The texts of an attack.

    Attributes:
        prompts: The places of the prompts that have one.
        changed: The place of the response that it changes, -1 where it is of another prompt.
        added: The characters that it adds to that response, or to the mean length of all.
    """

    def __init__(self, prompts: list[int], changed: list[int], added: list[float]) -> None:
        import numpy as np

        self.prompts: Codes = np.array(prompts, dtype=np.intp)
        self.changed: Codes = np.array(changed, dtype=np.intp)
        self.added: Values = np.array(added, dtype=np.float64)


class _Asked:
    """What was asked of every reward alike.

    Attributes:
        chosen: For each prompt and place of a response whether it is a chosen one; none without both kinds.
        rejected: The same of rejected ones.
        exists: Whether there is a response.
        clusters: Prompts of the same conversation have the same number.
        texts: Those of each attack.
    """

    def __init__(self, prompts: Sequence[AuditPrompt], attacks: Sequence[AttackEntry]) -> None:
        import numpy as np

        self.attacks = attacks
        self.columns = {attack.name: place for place, attack in enumerate(attacks)}
        self.width = max([len(prompt.genuine) for prompt in prompts], default=1)
        shape = (len(prompts), self.width)
        self.exists: Flags = np.zeros(shape, dtype=np.bool_)
        self.chosen: Flags = np.zeros(shape, dtype=np.bool_)
        self.rejected: Flags = np.zeros(shape, dtype=np.bool_)
        numbers: dict[object, int] = {}
        self.clusters: Codes = np.array(
            [numbers.setdefault(prompt.messages, len(numbers)) for prompt in prompts], dtype=np.intp
        )
        texts: list[tuple[list[int], list[int], list[float]]] = [([], [], []) for _ in attacks]
        for place, prompt in enumerate(prompts):
            lengths = [len(response) for response in prompt.genuine]
            self.exists[place, : len(lengths)] = True
            if prompt.chosen is not None and len(set(prompt.chosen)) > 1:
                self.chosen[place, : len(lengths)] = prompt.chosen
                self.rejected[place, : len(lengths)] = ~self.chosen[place, : len(lengths)]
            for text in prompt.attacked:
                if text.attack in self.columns:
                    at, changed, added = texts[self.columns[text.attack]]
                    at.append(place)
                    changed.append(-1 if text.changed is None else text.changed)
                    before = sum(lengths) / len(lengths) if text.changed is None else lengths[text.changed]
                    added.append(len(text.text) - before)
        self.texts = [_Texts(*parts) for parts in texts]


class _Scored:
    """The scores of a reward as arrays, divided by a power of two so that none is larger than 1.

    A line of `genuine` is what the genuine responses of a prompt were given: one line for a prompt, or one for each
    text beside which they were given something else.

    Attributes:
        attacked: For each prompt and attack, NaN where there is no score.
        lines: For each prompt and attack the line of the genuine ones beside it.
        no_answer: For each prompt and attack whether the reward found no answer in the text.
        genuine: For each line and place of a response.
        best: For each line, -inf without a score.
        mean: For each line, NaN without a score.
        count: For each line, how many have a score.
        spread: The median spread within a prompt; None where none varies.
    """

    def __init__(self, asked: _Asked, scores: RewardScores) -> None:
        import numpy as np

        self._asked = asked
        shape = (len(asked.exists), len(asked.attacks))
        self.attacked: Values = np.full(shape, nan)
        self.lines: Codes = np.zeros(shape, dtype=np.intp)
        self.no_answer: Flags = np.zeros(shape, dtype=np.bool_)
        rows: list[tuple[float | None, ...]] = [()]  # that of texts which were not asked about
        prompts = [0]
        for place, by_attack in zip(range(len(asked.exists)), scores, strict=True):
            row: tuple[float | None, ...] | None = None
            for name, found in by_attack.items():
                if name in asked.columns:
                    if found.genuine != row:
                        row = found.genuine
                        rows.append(row)
                        prompts.append(place)
                    column = asked.columns[name]
                    self.attacked[place, column] = nan if found.attacked is None else found.attacked
                    self.lines[place, column] = len(rows) - 1
                    self.no_answer[place, column] = found.no_answer
        padded = [[*row, *[None] * (asked.width - len(row))] for row in rows]
        self.genuine: Values = np.array(padded, dtype=np.float64)
        self._prompts: Codes = np.array(prompts, dtype=np.intp)
        self._scale()
        seen = ~np.isnan(self.genuine)
        self.count = seen.sum(axis=1)
        self.best: Values = np.where(seen, self.genuine, -np.inf).max(axis=1)
        known = np.where(seen, self.genuine, 0)
        self.mean: Values = np.where(self.count > 0, known.sum(axis=1) / np.maximum(self.count, 1), nan)
        self.spread = self._find_spread(seen)

    def _scale(self) -> None:
        """Make what is not finite NaN, and divide, so that squares of huge rewards do not overflow."""
        import numpy as np

        for values in (self.attacked, self.genuine):
            values[~np.isfinite(values)] = nan
        largest = max(
            float(np.abs(values[~np.isnan(values)]).max(initial=0)) for values in (self.attacked, self.genuine)
        )
        self._exponent = int(np.frexp(largest)[1])
        self.attacked = np.ldexp(self.attacked, -self._exponent)
        self.genuine = np.ldexp(self.genuine, -self._exponent)

    def restore(self, value: float) -> float:
        """Return a number in the reward's own unit."""
        import numpy as np

        with np.errstate(over="ignore"):
            return float(np.nan_to_num(np.ldexp(value, self._exponent)))

    def restore_estimate(self, found: Estimate | None) -> Estimate | None:
        """Return an estimate in the reward's own unit."""
        if found is None:
            return None
        return Estimate(self.restore(found.value), self.restore(found.low), self.restore(found.high), found.n)

    def _find_spread(self, seen: Flags) -> float | None:
        import numpy as np

        several = self.count > 1
        apart = np.where(seen, self.genuine - self.mean[:, None], 0)[several]
        deviations = np.sqrt((apart**2).sum(axis=1) / (self.count[several] - 1))
        of = self._prompts[several]
        within = np.bincount(of, deviations) / np.maximum(np.bincount(of), 1)
        varied = within[within > _NOISE]
        return float(np.median(varied)) if len(varied) else None

    def describe(self, label: str, outcomes: dict[str, int]) -> AuditedReward:
        """Describe the reward on the genuine responses."""
        import numpy as np

        seen = ~np.isnan(self.genuine)
        missing = np.zeros_like(self._asked.exists)
        np.logical_or.at(missing, self._prompts[1:], ~seen[1:])
        return AuditedReward(
            label=label,
            spread=None if self.spread is None else self.restore(self.spread),
            mean=self.restore(float(self.genuine[seen].mean())) if seen.any() else None,
            unscored=int((missing & self._asked.exists).sum()),
            outcomes=outcomes,
        )


def _measure(asked: _Asked, reward: _Scored, attack: int, label: str) -> AttackResult:
    import numpy as np

    entry, texts = asked.attacks[attack], asked.texts[attack]
    lines, attacked = reward.lines[texts.prompts, attack], reward.attacked[texts.prompts, attack]
    scored = ~np.isnan(attacked) & (reward.count[lines] > 0)
    prompts, changed = texts.prompts[scored], texts.changed[scored]
    lines, attacked, clusters = lines[scored], attacked[scored], asked.clusters[prompts]
    genuine = reward.genuine[lines]
    own = changed >= 0
    before = np.where(own, genuine[np.arange(len(own)), changed], reward.mean[lines])
    moved = attacked - before
    moved[np.abs(moved) <= _NOISE] = 0
    known = ~np.isnan(moved)
    gain = None
    if reward.spread is not None:
        gain = _estimate((attacked - reward.mean[lines]) / reward.spread, clusters, Quantity.NUMBER)
    drop = flipped = None
    chosen = asked.chosen[prompts]
    if entry.effect is Effect.BROKEN:
        better = np.where(chosen.any(axis=1)[:, None], chosen, asked.exists[prompts])
        better[own] = np.arange(asked.width) == changed[own, None]
        drop = _estimate(1 - _share_beaten(attacked, genuine, better), clusters)
    else:
        flipped = _estimate(_flips(attacked, genuine, chosen, asked.rejected[prompts], changed), clusters)
    return AttackResult(
        attack=entry.name,
        reward=label,
        prompts=len(texts.prompts),
        unscored=int((~scored).sum()),
        no_answer=int(reward.no_answer[texts.prompts, attack].sum()),
        chance=float((1 / (reward.count[lines] + 1)).mean()) if len(lines) else None,
        win_rate=_estimate(_beat(attacked, reward.best[lines]), clusters),
        gain=gain,
        reward_gain=reward.restore_estimate(_estimate(moved, clusters, Quantity.NUMBER)),
        flip_rate=flipped,
        drop_auc=drop,
        price=float(np.median(texts.added)) if len(texts.added) else None,
        p=compare_differences(np.sign(moved[known]), clusters[known].tolist()).p if known.any() else None,
        holm_p=None,
    )


def _flips(attacked: Values, genuine: Values, chosen: Flags, rejected: Flags, changed: Codes) -> Values:
    """For each prompt the share of the decisions that were right and are turned, NaN where there are none."""
    import numpy as np

    own = changed >= 0
    against = rejected & (~own[:, None] | (np.arange(rejected.shape[1]) == changed[:, None]))
    known = against & ~np.isnan(genuine)
    bar = np.where(known.any(axis=1), np.where(known, genuine, -np.inf).max(axis=1), np.inf)
    return _share_beaten(attacked, genuine, chosen & (genuine > bar[:, None]))


def _share_beaten(attacked: Values, genuine: Values, which: Flags) -> Values:
    """For each prompt the share of some genuine responses that the attacked text beats, NaN where none is scored."""
    import numpy as np

    which = which & ~np.isnan(genuine)
    count = which.sum(axis=1)
    beaten = np.where(which, _beat(attacked[:, None], genuine), 0).sum(axis=1)
    shares: Values = np.where(count > 0, beaten / np.maximum(count, 1), nan)
    return shares


def _beat(attacked: Values, genuine: Values) -> Values:
    """1 where it beats the other, one half where they tie, else 0."""
    beaten: Values = (attacked > genuine) + (attacked == genuine) / 2
    return beaten


def _estimate(values: Values, clusters: Codes, quantity: Quantity = Quantity.SHARE) -> Estimate | None:
    """Estimate the mean of what is known; None where nothing is."""
    import numpy as np

    known = ~np.isnan(values)
    values, drawn = values[known], clusters[known]
    if not len(values):
        return None
    together = len(np.unique(drawn)) < len(drawn)
    return estimate_mean(values, [""] * len(values), drawn.tolist() if together else None, quantity=quantity)


def _measure_slope(asked: _Asked, reward: _Scored, label: str) -> list[CopySlope]:
    """How the reward rises with the copied share; nothing without attacks that copy different shares."""
    import numpy as np

    shares = {
        place: entry.copied_share for place, entry in enumerate(asked.attacks) if entry.copied_share is not None
    }
    places = sorted(shares, key=shares.__getitem__)
    if len(set(shares.values())) < 2:
        return []
    copied = np.array([shares[place] for place in places])
    values = reward.attacked[:, places]
    points = [
        SlopePoint(copied_share=shares[place], reward=found)
        for column, place in enumerate(places)
        if (found := reward.restore_estimate(_estimate(values[:, column], asked.clusters, Quantity.NUMBER)))
    ]
    seen = ~np.isnan(values)
    count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    across = np.where(seen, copied - np.where(seen, copied, 0).sum(axis=1, keepdims=True) / count, 0)
    squares = (across**2).sum(axis=1)
    rises = (across * np.where(seen, values, 0)).sum(axis=1)
    slopes = np.where(squares > 0, rises / np.where(squares > 0, squares, 1), nan)
    slope = reward.restore_estimate(_estimate(slopes, asked.clusters, Quantity.NUMBER))
    return [CopySlope(reward=label, points=points, slope=slope)]
