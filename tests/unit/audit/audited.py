"""Audits made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flip_reward.audit.attacks.base import Carrier, Effect
from flip_reward.audit.figures import measure
from flip_reward.audit.findings import write_headline
from flip_reward.audit.prompts import AttackedText, AttackScores, AuditPrompt, RewardScores
from flip_reward.audit.results import AttackEntry, AttackResult, AuditResults
from flip_reward.core.conversation import Message
from flip_reward.evaluation.folder import RewardEntry

Given = tuple[float | None, Sequence[float | None]]
"""What a reward gave the attacked text and the genuine ones."""


def entry(name: str, effect: Effect = Effect.EXPLOIT, share: float | None = None) -> AttackEntry:
    return AttackEntry(
        name=name,
        family=name.partition(".")[0],
        effect=effect,
        carrier=Carrier.OTHER if name.startswith("copy") else Carrier.OWN,
        description="",
        copied_share=share,
    )


def prompt(
    number: int,
    attacks: Sequence[str],
    *,
    genuine: Sequence[str] = ("good", "bad"),
    chosen: Sequence[bool] | None = None,
    changed: int | None = None,
    text: str = "attacked",
    asked: str | None = None,
) -> AuditPrompt:
    return AuditPrompt(
        id=str(number),
        messages=(Message("user", asked or f"question {number}"),),
        genuine=tuple(genuine),
        chosen=None if chosen is None else tuple(chosen),
        attacked=tuple([AttackedText(name, text, changed) for name in attacks]),
    )


def scores(given: Sequence[Mapping[str, Given]]) -> RewardScores:
    return [
        {name: AttackScores(attacked, tuple(genuine)) for name, (attacked, genuine) in one.items()} for one in given
    ]


def reward(label: str, **settings: str | bool | float) -> RewardEntry:
    return RewardEntry(label=label, reward=label.partition(" ")[0], model=None, settings={**settings})


def audit(
    prompts: Sequence[AuditPrompt],
    attacks: Sequence[AttackEntry],
    given: Mapping[str, RewardScores],
    rewards: Sequence[RewardEntry] = (),
) -> AuditResults:
    figures = measure(prompts, attacks, given)
    results = AuditResults(
        source="prompts.jsonl",
        prompts=len(prompts),
        responses=sum(len(one.genuine) for one in prompts),
        labelled=sum(one.chosen is not None for one in prompts),
        attacks=list(attacks),
        rewards=list(rewards) or [reward(label) for label in given],
        audited=figures.audited,
        results=figures.results,
        slopes=figures.slopes,
        headline="",
    )
    return results.model_copy(update={"headline": write_headline(results)})


def measure_one(attack: AttackEntry, prompts: Sequence[AuditPrompt], given: Sequence[Given]) -> AttackResult:
    """The figures of one attack on one reward."""
    return measure(prompts, [attack], {"r": scores([{attack.name: one} for one in given])}).results[0]
