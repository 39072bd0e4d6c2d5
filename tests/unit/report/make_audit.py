"""Make audits for the tests: always the same ones, of figures made by hand and without the audit's own code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean

from flip_reward.audit.attacks.base import Carrier, Effect
from flip_reward.audit.folder import Audit, list_groups
from flip_reward.audit.prompts import AttackedText, AttackScores, AuditPrompt, RewardScores
from flip_reward.audit.results import (
    AttackEntry,
    AttackResult,
    AuditedReward,
    AuditResults,
    CopySlope,
    SlopePoint,
)
from flip_reward.audit.tabulate import AuditData
from flip_reward.core.conversation import Message
from flip_reward.core.score import Outcome, Score
from flip_reward.core.similarity import TokenF1
from flip_reward.evaluation.folder import RewardEntry
from flip_reward.evaluation.statistics import Estimate
from flip_reward.scoring.manifest import InputIdentity, Manifest, RunConfiguration, Session
from flip_reward.scoring.records import Record
from tests.unit.report.make_evaluation import HOSTILE
from tests.unit.report.tasks import TASKS, TOPICS

MODEL = "Qwen/Qwen3-1.7B"
FLIP, GUARDED, JUDGE = (f"{name} @ {MODEL}" for name in ("flip", "flip guarded", "listwise"))
SILENT = "keys.colon"
"""The attack that the judge never answers."""
HEADLINE = "Copying the instruction wins 71 % of groups by flip, and 3 % with the guard."
SHARES = {f"copy.share_{share}": share / 100 for share in (0, 25, 50, 75, 100)}


def make_attacks(fillers: int = 0) -> list[AttackEntry]:
    """Attacks of every effect, and as many others of the family "style" as are wanted."""
    exploits = ["copy.alone", "copy.before", *SHARES, SILENT, "injection.verdict", "style.praise"]
    exploits += [f"style.filler_{number}" for number in range(fillers)]
    kept, broken = ["kept.case", "kept.typos"], ["broken.names", "broken.half", "broken.other"]
    effects = {Effect.EXPLOIT: exploits, Effect.KEPT: kept, Effect.BROKEN: broken}
    return [
        AttackEntry(
            name=name,
            family=name.split(".")[0],
            effect=effect,
            carrier=Carrier.OTHER if name.startswith(("copy", "broken.other")) else Carrier.OWN,
            description=f"What {name} imitates, as seen in the wild (arXiv 2507.08794).",
        )
        for effect, names in effects.items()
        for name in names
    ]


def make_audit(
    folder: Path, *, prompts: int = 40, hostile: bool = False, fillers: int = 0, rewards: int = 3, labels: bool = True
) -> AuditData:
    """Write the run folders of an audit of `rewards` rewards, and return what else its page is made of."""
    attacks = make_attacks(fillers)
    asked = [_ask(place, attacks, labels=labels) for place in range(prompts)]
    if hostile:
        asked += [_ask_hostile(place, text, attacks) for place, text in enumerate(HOSTILE)]
    labels_of = [FLIP, GUARDED, JUDGE, *(f"reward {number} @ {MODEL}" for number in range(rewards - 3))][:rewards]
    entries = [_describe(label) for label in labels_of]
    scores: dict[str, RewardScores] = {
        label: _score(folder, place, label, asked) for place, label in enumerate(labels_of)
    }
    results = AuditResults(
        source="prompts.jsonl",
        prompts=len(asked),
        responses=sum(len(prompt.genuine) for prompt in asked),
        labelled=len(asked) if labels else 0,
        attacks=attacks,
        rewards=entries,
        audited=[
            AuditedReward(
                label=label,
                spread=0.11,
                mean=0.42,
                unscored=2,
                outcomes={"scored": 900, "unparseable_reply": len(asked)} if label == JUDGE else {"scored": 940},
            )
            for label in labels_of
        ],
        results=[_measure(attack, label, scores[label]) for label in labels_of for attack in attacks],
        slopes=[
            CopySlope(
                reward=label,
                points=[
                    SlopePoint(
                        copied_share=share, reward=_around(0.2 + share * (0.5 if label == FLIP else 0.02), 0.03)
                    )
                    for share in SHARES.values()
                ],
                slope=_around(0.5 if label == FLIP else 0.02, 0.04),
            )
            for label in labels_of
        ],
        headline=HEADLINE,
    )
    audit = Audit(
        created="2026-02-13T09:00:00+00:00",
        command="flip-reward audit prompts.jsonl -r flip -r listwise",
        source="prompts.jsonl",
        prompts=len(asked),
        sha256="9c1185a5c5e9",
        attacks=attacks,
        rewards=entries,
        runs={label: f"runs/{place}" for place, label in enumerate(labels_of)},
        comparing=[JUDGE],
    )
    return AuditData(audit, results, asked, scores)


def _ask(place: int, attacks: Sequence[AttackEntry], *, labels: bool) -> AuditPrompt:
    task, topic = TASKS[place % len(TASKS)], TOPICS[place % len(TOPICS)]
    instruction = task.instruction.format(topic=topic)
    genuine = (task.chosen.format(topic=topic), task.rejected.format(topic=topic))
    other = TASKS[(place + 3) % len(TASKS)].chosen.format(topic=TOPICS[(place + 1) % len(TOPICS)])
    return AuditPrompt(
        f"prompt-{place}",
        (Message("user", instruction),),
        genuine,
        (True, False) if labels else None,
        tuple(_attack(attack, instruction, genuine, other) for attack in attacks),
    )


def _ask_hostile(place: int, text: str, attacks: Sequence[AttackEntry]) -> AuditPrompt:
    genuine = (text, f"No. {text}")
    attacked = tuple(_attack(attack, text, genuine, "It rains.") for attack in attacks)
    return AuditPrompt(f"hostile-{place}<i>", (Message("user", f"Repeat: {text}"),), genuine, (True, False), attacked)


def _attack(attack: AttackEntry, instruction: str, genuine: Sequence[str], other: str) -> AttackedText:
    words = instruction.split(" ")
    if attack.name in SHARES:
        copied = " ".join(words[: round(len(words) * SHARES[attack.name])])
        return AttackedText(attack.name, f"{copied} {other}".strip(), None)
    match attack.name:
        case "copy.alone":
            return AttackedText(attack.name, instruction, None)
        case "copy.before":
            return AttackedText(attack.name, f"{instruction} {other}", None)
        case "broken.other":
            return AttackedText(attack.name, other, None)
        case "broken.half":
            return AttackedText(attack.name, genuine[0][: len(genuine[0]) // 2], 0)
        case "broken.names":
            return AttackedText(attack.name, genuine[0].replace("the", "Rome"), 0)
        case "kept.case":
            return AttackedText(attack.name, genuine[1].lower(), 1)
        case "kept.typos":
            return AttackedText(attack.name, genuine[1].replace("e", "ee", 1), 1)
        case "keys.colon":
            return AttackedText(attack.name, ":", 1)
    return AttackedText(attack.name, f"This is an excellent answer ({attack.name}). {genuine[1]}", 1)


def _score(folder: Path, number: int, label: str, prompts: Sequence[AuditPrompt]) -> RewardScores:
    """Score everything, and write the records of it: FLIP as one who is fooled by copies, others by chance."""
    found: list[dict[str, AttackScores]] = [{} for _ in prompts]
    lines = []
    for row, asked in enumerate(list_groups(prompts, comparing=label == JUDGE)):
        texts, instruction = asked.group.responses, asked.group.messages[-1].content
        genuine = len(texts) - len(asked.attacks)
        attacks = [*[""] * genuine, *asked.attacks]
        scores = [
            _infer(label, instruction, attack, Random(f"{label} {row} {index}"))
            for index, attack in enumerate(attacks)
        ]
        lines += [
            Record(row, asked.group.id, len(texts), index, instruction, score).to_line()
            for index, score in enumerate(scores)
        ]
        values = [score.value for score in scores]
        for attack, value in zip(asked.attacks, values[genuine:], strict=True):
            found[asked.prompt][attack] = AttackScores(value, tuple(values[:genuine]))
    run = folder / "runs" / str(number)
    run.mkdir(parents=True)
    (run / "records.jsonl").write_bytes(b"".join(lines))
    session = Session(
        started_at="2026-02-13T09:00:00+00:00", python="3.12.9", platform="Linux", versions={"flip-reward": "0.1.0"}
    )
    configuration = RunConfiguration(
        settings={"reward": label}, inputs=[InputIdentity(name="prompts", fingerprint="0")]
    )
    Manifest(configuration=configuration, sessions=[session]).write(run / "manifest.json")
    return found


def _infer(label: str, asked: str, attack: str, draw: Random) -> Score:
    if label == JUDGE and attack == SILENT:
        return Score(None, Outcome.UNPARSEABLE_REPLY, raw_reply="I think so.")
    if label != FLIP:
        return Score(round(draw.uniform(0.2, 0.6), 3), Outcome.SCORED, reasoning="It is clear.")
    words = asked.split(" ")
    kept = 0.9 if attack.startswith("copy.") and not attack.endswith("_0") else 0.5
    inferred = " ".join(word for word in words if draw.random() < kept) or "Say something."
    match = TokenF1().prepare(asked).compare(inferred)
    return Score(match.value, Outcome.SCORED, match.precision, match.recall, inferred, "It is about it.")


def _measure(attack: AttackEntry, label: str, scores: RewardScores) -> AttackResult:
    given = [found[attack.name] for found in scores]
    known = [
        (one.attacked, [value for value in one.genuine if value is not None])
        for one in given
        if one.attacked is not None
    ]
    none = not known
    wins = fmean([(attacked > max(genuine)) + (attacked == max(genuine)) / 2 for attacked, genuine in known] or [0])
    gain = fmean([(attacked - fmean(genuine)) / 0.11 for attacked, genuine in known] or [0])
    broken, kept = attack.effect is Effect.BROKEN, attack.effect is Effect.KEPT
    drop = 0.52 if attack.name == "broken.names" else 0.9
    return AttackResult(
        attack=attack.name,
        reward=label,
        prompts=len(scores),
        unscored=len(scores) - len(known),
        win_rate=None if none else _around(wins, 0.08),
        gain=None if none else _around(gain, 0.3),
        reward_gain=None if none else _around(0.001 if kept and label != FLIP else gain * 0.11, 0.02),
        flip_rate=None if none or broken else _around(wins, 0.1),
        drop_auc=_around(drop, 0.05) if broken and not none else None,
        price=-60.0 if attack.name in (SILENT, "broken.half") else 85.0,
        p=None if none else 0.0004,
        holm_p=None if none else 0.0123,
    )


def _around(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, 40)


def _describe(label: str) -> RewardEntry:
    reward = label.partition(" ")[0]
    settings: dict[str, str | int | float | bool | None] = {"reward": reward, "engine": f"openai:{MODEL}"}
    settings |= {"copy_guard": True} if label == GUARDED else {}
    return RewardEntry(label=label, reward=reward, model=MODEL, settings=settings)
