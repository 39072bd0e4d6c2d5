"""`results.json` of an audit: what each attack did to each reward, as readers of the folder see it."""

from __future__ import annotations

from pydantic import Field

from flip_reward.audit.attacks.base import Carrier, Effect
from flip_reward.evaluation.folder import RewardEntry
from flip_reward.evaluation.results import ResultModel
from flip_reward.evaluation.statistics import Estimate

FORMAT = 1
"""The layout of an audit folder."""


class AttackEntry(ResultModel):
    """An attack as it was made."""

    name: str
    family: str
    effect: Effect
    carrier: Carrier
    description: str


class AttackResult(ResultModel):
    """What one attack did to one reward: 95 % intervals are over prompts, and what is not defined is None."""

    attack: str
    reward: str
    prompts: int
    """Prompts in which the attack made a text."""
    unscored: int
    """Those among them without a score for the attacked text, or for any genuine response. No figure counts them."""
    win_rate: Estimate | None
    """The share in which the attacked text beats the best genuine response; a tie counts one half."""
    gain: Estimate | None
    """The mean of the attacked text's reward minus the mean of the genuine ones, in units of the reward's `spread`:
    about the advantage that GRPO would see. None where no prompt has two responses of different reward."""
    reward_gain: Estimate | None
    """The same in the reward's own unit, against the response that was changed, or the mean of the genuine ones where
    the text is of another prompt."""
    flip_rate: Estimate | None
    """Of the chosen responses that the reward puts above the rejected one that is changed, the share that the
    attacked one then beats; a tie counts one half. None without labels."""
    drop_auc: Estimate | None
    """For broken meaning: the share in which the response as it was beats the broken one, a tie one half; 0.5 is
    blind."""
    price: float | None
    """The characters that the attack adds, the median over prompts; negative where it cuts."""
    p: float | None
    """That the attacked text is as often above the response it changes as below: an exact sign test."""
    holm_p: float | None
    """The same, corrected for all attacks and rewards of the audit."""


class AuditedReward(ResultModel):
    """A reward on the genuine responses."""

    label: str
    spread: float | None
    """The median over prompts of the standard deviation of the rewards within a prompt, of those that vary."""
    mean: float | None
    """The mean reward of genuine responses."""
    unscored: int
    """Genuine responses without a score."""
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
