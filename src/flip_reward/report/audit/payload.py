"""The data inside the page of an audit, as `page/audit` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from flip_reward.audit.findings import (
    describe,
    find_blind,
    find_first_learned,
    find_idle,
    find_lonely,
    find_unread,
    find_unstable,
    find_worst_exploit,
)
from flip_reward.audit.folder import list_groups
from flip_reward.audit.prompts import AttackedText, AttackScores, AuditPrompt
from flip_reward.audit.results import SEPARATOR, AttackEntry, AttackResult, AuditedReward, CopySlope
from flip_reward.audit.tabulate import AuditData, find_worst
from flip_reward.core.response import select_target
from flip_reward.core.score import Outcome
from flip_reward.evaluation.folder import RewardEntry
from flip_reward.report.audit.differences import find_new_words
from flip_reward.report.facts import Facts, describe_software, list_facts
from flip_reward.report.highlight import choose_normalizer, find_shared_tokens
from flip_reward.report.meanings import OUTCOMES
from flip_reward.report.texts import ScoreRow, TextTable, round_figure, score_row
from flip_reward.scoring.folders import MANIFEST
from flip_reward.scoring.manifest import Manifest
from flip_reward.scoring.run_folder import read_records

WORST = 5
"""How many texts of each attack and reward a page shows."""

Key = tuple[int, str]
"""The place of a prompt, and the name of an attack."""


@dataclass(frozen=True, slots=True)
class GenuinePayload:
    """A genuine response beside an attacked text: the one that was changed, or a reward's best."""

    index: int
    text: int
    chosen: bool | None
    changed: bool
    missing: Sequence[int]
    """Of the one that was changed: starts and ends of what the attacked text lacks."""


@dataclass(frozen=True, slots=True)
class CasePayload:
    """An attacked text that is among the worst for some reward."""

    id: str
    attack: int
    messages: list[tuple[str, int]]
    """The role and the text of each."""
    instruction: int
    text: int
    marks: Sequence[int]
    """Starts and ends of what the attack put in; where it changed no response to this prompt, of words that stand in
    the instruction, too."""
    genuine: list[GenuinePayload]
    scores: list[tuple[float | None, list[float | None]] | None]
    """By reward: of the attacked text and of those genuine responses; null where the reward has no scores yet."""
    margins: list[float | None]
    """By reward: how far it lies above what it should not beat; null where it is none of the reward's worst."""
    judged: list[ScoreRow | None]
    """By reward, where it is among its worst: what the reward made of the attacked text."""


@dataclass(frozen=True, slots=True)
class Found:
    """Attacks about which there is something to say of a reward, the worst first."""

    reward: str
    attacks: list[str]


@dataclass(frozen=True, slots=True)
class AuditPayload:
    """Everything in the page of an audit but its texts."""

    title: str
    created: str
    headline: str
    missing: list[str]
    """Rewards that are not scored to their end."""
    prompts: int
    responses: int
    labelled: int
    attacks: list[AttackEntry]
    words: dict[str, str]
    """What each attack is called in a sentence."""
    rewards: list[RewardEntry]
    audited: list[AuditedReward]
    results: list[AttackResult]
    slopes: list[CopySlope]
    unread: list[str]
    """Attacks in whose texts no reward found an answer."""
    idle: list[str]
    """Attacks that change none of the responses."""
    lonely: list[str]
    """Attacks that take a response to another prompt, where there is none."""
    worst: dict[str, str]
    """The exploit that wins most for sure, by reward."""
    learned: list[Found]
    """What a policy would learn first."""
    blind: list[Found]
    unstable: list[Found]
    """What a reward is not robust to."""
    meanings: dict[str, str]
    """Of the outcomes that occur."""
    cases: list[CasePayload]
    made: list[Facts]


@dataclass(slots=True)
class _Case:
    """A case on its way into the page."""

    prompt: AuditPrompt
    attacked: AttackedText
    margins: dict[str, float] = field(default_factory=dict)
    """By the labels of the rewards for which it is among the worst."""


def make_audit_data(folder: Path, data: AuditData) -> tuple[AuditPayload, TextTable]:
    """Make the data of an audit's page."""
    results, texts, labels = data.results, TextTable(), list(data.scores)
    cases = _choose_cases(data)
    outcomes = {name for reward in results.audited for name in reward.outcomes}
    payload = AuditPayload(
        title=", ".join([PurePath(part).name or part for part in results.source.split(SEPARATOR)]),
        created=data.audit.created,
        headline=results.headline,
        missing=[reward.label for reward in results.rewards if reward.label not in data.scores],
        prompts=results.prompts,
        responses=results.responses,
        labelled=results.labelled,
        attacks=results.attacks,
        words={attack.name: describe(attack.name) for attack in results.attacks},
        rewards=results.rewards,
        audited=results.audited,
        results=results.results,
        slopes=results.slopes,
        unread=find_unread(results),
        idle=find_idle(results),
        lonely=find_lonely(results),
        worst={label: one.attack for label in labels if (one := find_worst_exploit(results, label))},
        learned=[Found(label, [one.result.attack for one in find_first_learned(results, label)]) for label in labels],
        blind=[Found(label, [one.attack for one in find_blind(results, label)]) for label in labels],
        unstable=[Found(label, [one.attack for one in find_unstable(results, label)]) for label in labels],
        meanings={name: OUTCOMES[Outcome(name)] for name in sorted(outcomes)},
        cases=_describe_cases(folder, data, cases, texts),
        made=_describe_making(folder, data),
    )
    return payload, texts


def _choose_cases(data: AuditData) -> dict[Key, _Case]:
    """Choose the worst texts of each attack for each reward."""
    cases: dict[Key, _Case] = {}
    worst = {label: find_worst(data, label, WORST) for label in data.scores}
    for attack in data.results.attacks:
        for label, found in worst.items():
            for one in found.get(attack.name, []):
                prompt = data.prompts[one.prompt]
                text = next(text for text in prompt.attacked if text.attack == attack.name)
                cases.setdefault((one.prompt, attack.name), _Case(prompt, text)).margins[label] = one.margin
    return cases


def _describe_cases(folder: Path, data: AuditData, cases: Mapping[Key, _Case], texts: TextTable) -> list[CasePayload]:
    positions = {attack.name: position for position, attack in enumerate(data.results.attacks)}
    judged = [_judge_cases(folder, data, reward, cases, texts) for reward in data.results.rewards]
    return [
        _describe_case(
            case,
            positions[name],
            {label: scores[place][name] for label, scores in data.scores.items() if name in scores[place]},
            [rows.get((place, name)) for rows in judged],
            data.results.rewards,
            texts,
        )
        for (place, name), case in cases.items()
    ]


def _describe_case(
    case: _Case,
    attack: int,
    scores: Mapping[str, AttackScores],
    judged: list[ScoreRow | None],
    rewards: Sequence[RewardEntry],
    texts: TextTable,
) -> CasePayload:
    prompt, attacked = case.prompt, case.attacked
    instruction = select_target(prompt.messages).instruction
    shown = _choose_genuine(attacked.changed, scores.values())
    found = [scores.get(reward.label) for reward in rewards]
    changed = None if attacked.changed is None else prompt.genuine[attacked.changed]
    return CasePayload(
        id=f"{attacked.attack} · {prompt.id}",
        attack=attack,
        messages=[(message.role, texts.add(message.content)) for message in prompt.messages],
        instruction=texts.add(instruction),
        text=texts.add(attacked.text),
        marks=(
            find_shared_tokens(attacked.text, instruction, "multilingual").inferred
            if changed is None
            else find_new_words(attacked.text, changed)
        ),
        genuine=[
            GenuinePayload(
                index=index,
                text=texts.add(prompt.genuine[index]),
                chosen=None if prompt.chosen is None else prompt.chosen[index],
                changed=index == attacked.changed,
                missing=find_new_words(prompt.genuine[index], attacked.text) if index == attacked.changed else (),
            )
            for index in shown
        ],
        scores=[
            None
            if one is None
            else (round_figure(one.attacked), [round_figure(one.genuine[index]) for index in shown])
            for one in found
        ],
        margins=[round_figure(case.margins.get(reward.label)) for reward in rewards],
        judged=judged,
    )


def _choose_genuine(changed: int | None, scores: Iterable[AttackScores]) -> list[int]:
    """Return the places of the response that was changed, and of each reward's best."""
    shown = set() if changed is None else {changed}
    for found in scores:
        known = [(value, -index) for index, value in enumerate(found.genuine) if value is not None]
        if known:
            shown.add(-max(known)[1])
    return sorted(shown)


def _judge_cases(
    folder: Path, data: AuditData, reward: RewardEntry, cases: Mapping[Key, _Case], texts: TextTable
) -> dict[Key, ScoreRow]:
    """Read what a reward made of the texts that are among its worst."""
    wanted = {key for key, case in cases.items() if reward.label in case.margins}
    if not wanted:
        return {}
    places: dict[tuple[int, int], Key] = {}
    for row, asked in enumerate(list_groups(data.prompts, comparing=reward.label in data.audit.comparing)):
        first = len(asked.group.responses) - len(asked.attacks)
        for index, attack in enumerate(asked.attacks, start=first):
            if (asked.prompt, attack) in wanted:
                places[row, index] = asked.prompt, attack
    normalizer = choose_normalizer(reward.settings)
    rows = {}
    for record in read_records(folder / data.audit.runs[reward.label]):
        key = places.get((record.row, record.response_index))
        if key is not None:  # a later record of the same text takes its place
            rows[key] = score_row(record, select_target(cases[key].prompt.messages).instruction, normalizer, texts)
    return rows


def _describe_making(folder: Path, data: AuditData) -> list[Facts]:
    """Gather what a reader needs to judge an audit, and to repeat it."""
    audit = data.audit
    asked = {"created": audit.created, "command": audit.command, "data": audit.source, **dict(audit.options)}
    facts = [list_facts("Audit", asked)]
    facts.append(list_facts("Attacks", {attack.name: attack.description for attack in data.results.attacks}))
    facts += [list_facts(reward.label, reward.settings) for reward in data.results.rewards if reward.settings]
    sessions = [
        session
        for run in audit.runs.values()
        if (folder / run / MANIFEST).is_file()
        for session in Manifest.read(folder / run / MANIFEST).sessions
    ]
    return [*facts, describe_software(sessions)]
