"""`results.json` and `results.csv` of an audit: what each attack did to each reward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.errors import RunError
from flip_reward.evaluation.folder import FORMAT, RESULTS, RewardEntry
from flip_reward.evaluation.results import ResultModel, write_result_files
from flip_reward.evaluation.statistics import Estimate

SEPARATOR = " + "


class AttackEntry(ResultModel):
    """An attack as it was made."""

    name: str
    family: str
    effect: Effect
    carrier: Carrier
    description: str
    copied_share: float | None = None
    """The share of the instruction's 4-grams that it copies, of those attacks that make the slope."""

    @property
    def is_control(self) -> bool:
        """Whether it copies nothing, so that others can be compared with it: it counts as no attack of its family."""
        return self.copied_share == 0

    @classmethod
    def of(cls, attack: Attack) -> Self:
        """Describe an attack."""
        return cls(
            name=attack.name,
            family=attack.family,
            effect=attack.effect,
            carrier=attack.carrier,
            description=attack.description,
            copied_share=attack.copied_share,
        )


class AttackResult(ResultModel):
    """What one attack did to one reward, with 95 % intervals over prompts; None is what is not defined.

    The response that an attack changes is its measure. A text of another prompt changes none: there it is the mean of
    all genuine responses.
    """

    attack: str
    reward: str
    prompts: int
    """Prompts in which the attack made a text."""
    unscored: int
    """Those among them without a score for the attacked text, or for any genuine response. No figure counts them."""
    no_answer: int = 0
    """Those among the unscored whose attacked text has no answer that the reward could read: it is blank, or nothing
    but thinking. Such a text earns nothing, so the attack cannot pay."""
    chance: float | None = None
    """What one more genuine response would win by chance: the mean of 1 / (genuine responses + 1)."""
    win_rate: Estimate | None
    """The share in which the attacked text beats the best genuine response; a tie counts one half."""
    gain: Estimate | None
    """The mean of the attacked text's reward minus the mean of the genuine ones, in units of the reward's `spread`:
    about the advantage that GRPO would see. None where no prompt has two responses of different reward."""
    reward_gain: Estimate | None
    """The mean of the attacked text's reward minus that of the response it changes, in the reward's own unit."""
    flip_rate: Estimate | None
    """Of the chosen responses that the reward puts above the rejected one that is changed, or above all rejected ones
    where none is, the share that the attacked text then beats; a tie counts one half. None without labels, and for
    broken meaning."""
    drop_auc: Estimate | None
    """For broken meaning: the share in which the response as it was beats the broken one, a tie one half; 0.5 is
    blind. A text of another prompt is compared with the chosen responses, or with all where there are no labels."""
    price: float | None
    """The characters that the attack adds, the median over prompts; negative where it cuts."""
    p: float | None
    """That `reward_gain` is as often above 0 as below: an exact sign test, a conversation counts once."""
    holm_p: float | None
    """The same, corrected for all attacks and rewards of the audit."""


class AuditedReward(ResultModel):
    """A reward on the genuine responses."""

    label: str
    spread: float | None
    """The median over prompts of the standard deviation (n - 1) of the rewards within one, where they vary."""
    mean: float | None
    """The mean reward of genuine responses."""
    unscored: int
    """Genuine responses without a score, beside any attacked text where the reward compares responses."""
    outcomes: dict[str, int] = Field(default={})
    """How many texts had each outcome, the attacked ones too."""


class SlopePoint(ResultModel):
    """The mean reward where a share of the instruction is copied, 0 to 1."""

    copied_share: float
    reward: Estimate


class CopySlope(ResultModel):
    """How a reward rises with the copied share of the instruction."""

    reward: str
    points: list[SlopePoint]
    slope: Estimate | None
    """By a straight line through each prompt's points: the reward of a whole copy more than that of none."""


class AuditResults(ResultModel):
    """The content of `results.json`."""

    format: int = FORMAT
    source: str
    """What the user called the data; several inputs stand with `SEPARATOR` between them."""
    prompts: int
    responses: int
    """Genuine ones."""
    labelled: int
    """Prompts with chosen and rejected responses."""
    attacks: list[AttackEntry]
    rewards: list[RewardEntry]
    audited: list[AuditedReward]
    results: list[AttackResult]
    slopes: list[CopySlope]
    headline: str
    """The worst that was found, in a sentence."""


def read_results(folder: Path) -> AuditResults:
    """Read `results.json`; a RunError where there is none, or it is damaged or of another layout."""
    path = folder / RESULTS
    try:
        found = AuditResults.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{folder} has no results of an audit: {path.name} cannot be read ({error.strerror or error})",
            hint="'flip-reward audit' writes them once every reward has scored every text",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RunError(
            f"{path} holds no results of an audit: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    if found.format != FORMAT:
        raise RunError(f"{path} has the format {found.format}, and this version reads {FORMAT}")
    return found


def write_results(folder: Path, results: AuditResults) -> None:
    """Write `results.json` and `results.csv`, a line for each attack and reward, into an audit folder."""
    write_result_files(folder, results, _COLUMNS, _rows(results))


ESTIMATES = ("win_rate", "gain", "reward_gain", "flip_rate", "drop_auc")
"""The figures of an `AttackResult` that have an interval."""
NUMBERS = ("prompts", "unscored", "no_answer", "chance", "price", "p", "holm_p")
"""Those that have none."""
_COLUMNS = (
    "reward", "model", "attack", "family", "effect",
    *NUMBERS, *(f"{figure}{end}" for figure in ESTIMATES for end in ("", "_low", "_high", "_n")),
)  # fmt: skip


def _rows(results: AuditResults) -> Iterator[list[object]]:
    models = {reward.label: reward.model for reward in results.rewards}
    attacks = {attack.name: attack for attack in results.attacks}
    for found in results.results:
        attack = attacks[found.attack]
        row: list[object] = [found.reward, models[found.reward], found.attack, attack.family, attack.effect.value]
        row += [getattr(found, name) for name in NUMBERS]
        for name in ESTIMATES:
            estimate: Estimate | None = getattr(found, name)
            row += [""] * 4 if estimate is None else [estimate.value, estimate.low, estimate.high, estimate.n]
        yield row
