"""The audit folder: what is audited, the prompts with their attacked texts, and a run folder for every reward.

AUDIT/audit.json                what is audited (`Audit`)
AUDIT/prompts.jsonl             the prompts, a line each (`AuditPrompt`)
AUDIT/runs/REWARD--MODEL/       a run folder of `flip_reward.scoring.run_folder`
AUDIT/results.json, .csv        the results
AUDIT/report.html               the page

A reward that scores responses one by one is asked about a group a prompt: its genuine responses, and after them all
attacked texts. One that compares responses is asked about a group an attack: the genuine responses and that one text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from flip_reward.audit.prompts import AttackScores, AuditPrompt, RewardScores
from flip_reward.audit.results import AttackEntry
from flip_reward.core.conversation import Group
from flip_reward.core.score import Outcome
from flip_reward.data.files import atomic_file, write_atomically
from flip_reward.errors import ConversationError, RunError, RunMismatchError, list_some
from flip_reward.evaluation.folder import FORMAT, Entry, RewardEntry, compare_rewards, merge_entries, read_file
from flip_reward.scoring.folders import AUDIT, FolderKind
from flip_reward.scoring.run_folder import RECORDS, read_records, read_summary

PROMPTS = "prompts.jsonl"
_MOST_NAMED = 5
_NO_ANSWER = (Outcome.EMPTY_RESPONSE, Outcome.UNFINISHED_THINKING)


class AuditOptions(Entry):
    """What the attacked texts depend on besides the data."""

    limit: int | None = None
    """How many prompts of the data there are at most."""
    attack_seed: int = 0


class Audit(Entry):
    """The content of `audit.json`."""

    format: int = FORMAT
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    command: str = ""
    """The last command line, without secrets."""
    source: str
    """What the user called the data."""
    options: AuditOptions = AuditOptions()
    prompts: int
    sha256: str
    """Of `prompts.jsonl`."""
    attacks: list[AttackEntry]
    rewards: list[RewardEntry]
    runs: dict[str, str]
    """The label of a reward -> its run folder, relative to the audit's."""
    comparing: list[str] = Field(default=[])
    """The labels of rewards that compare responses."""

    def extended(self, other: Audit) -> Audit:
        """Return the audit with the rewards of another one.

        A RunMismatchError lists other attacks, other texts and rewards of the same label with other settings.
        """
        differences = self._compare_texts(other) + compare_rewards(self.rewards, other.rewards)
        if differences:
            raise RunMismatchError(
                "the folder holds another audit:\n  " + "\n  ".join(differences),
                hint="give another folder with --run-folder, or the same data, attacks and options",
            )
        return self.model_copy(
            update={
                "command": other.command,
                "rewards": merge_entries(self.rewards, other.rewards, "label"),
                "runs": self.runs | other.runs,
                "comparing": sorted({*self.comparing, *other.comparing}),
            }
        )

    def _compare_texts(self, other: Audit) -> list[str]:
        mine, theirs = ([attack.name for attack in audit.attacks] for audit in (self, other))
        found = [
            f"attacks only {when}: {list_some([name for name in names if name not in others], _MOST_NAMED)}"
            for when, names, others in (("there", mine, theirs), ("now", theirs, mine))
            if not set(names) <= set(others)
        ]
        for name, there, now in (
            ("prompts", self.prompts, other.prompts),
            ("attack seed", self.options.attack_seed, other.options.attack_seed),
        ):
            found += [f"{name}: {there} there, {now} now"] if there != now else []
        if not found and self.sha256 != other.sha256:
            found.append("prompts, responses or what the attacks make of them: others there than now")
        return found


def read_audit(folder: Path) -> Audit:
    """Read `audit.json`; a RunError where there is none, or it is damaged."""
    return read_file(folder / AUDIT, Audit, FolderKind.AUDIT)


def write_audit(folder: Path, audit: Audit) -> None:
    """Write `audit.json`."""
    write_atomically(folder / AUDIT, audit.model_dump_json(indent=2).encode() + b"\n")


def write_prompts(folder: Path, prompts: Sequence[AuditPrompt]) -> None:
    """Write the prompts."""
    with atomic_file(folder / PROMPTS) as file:
        file.writelines(_dump(prompts))


def hash_prompts(prompts: Sequence[AuditPrompt]) -> str:
    """Return the SHA-256 of `prompts.jsonl`, which changes with any text."""
    digest = hashlib.sha256()
    for line in _dump(prompts):
        digest.update(line)
    return digest.hexdigest()


def _dump(prompts: Sequence[AuditPrompt]) -> Iterator[bytes]:
    for prompt in prompts:
        yield orjson.dumps(prompt, option=orjson.OPT_APPEND_NEWLINE)


def read_prompts(folder: Path) -> list[AuditPrompt]:
    """Read the prompts; a RunError where there are none, or a line is damaged."""
    path = folder / PROMPTS
    prompts = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                prompts.append(_read_prompt(line, path, number))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    return prompts


def _read_prompt(line: bytes, path: Path, number: int) -> AuditPrompt:
    try:
        return _prompt_lines().validate_json(line)
    except (ValidationError, ConversationError) as error:
        raise RunError(f"{path}, line {number} is damaged") from error


@cache
def _prompt_lines() -> TypeAdapter[AuditPrompt]:
    return TypeAdapter(AuditPrompt)


@dataclass(frozen=True, slots=True)
class AskedGroup:
    """A group that a reward is asked about: the genuine responses to a prompt, and after them attacked texts."""

    prompt: int
    """The prompt's place."""
    attacks: tuple[str, ...]
    """Of the attacked texts, in their order."""
    group: Group


def list_groups(prompts: Sequence[AuditPrompt], *, comparing: bool) -> Iterator[AskedGroup]:
    """List what a reward is asked about, in the order of its records' rows."""
    for place, prompt in enumerate(prompts):
        parts = [(text,) for text in prompt.attacked] if comparing else [prompt.attacked]
        for texts in parts:
            attacks = tuple(text.attack for text in texts)
            responses = (*prompt.genuine, *(text.text for text in texts))
            name = f"{prompt.id}/{attacks[0]}" if comparing else prompt.id
            yield AskedGroup(place, attacks, Group(prompt.messages, responses, id=name))


def read_scores(folder: Path, audit: Audit, label: str) -> RewardScores | None:
    """Read what a reward gave; None as long as it has not been asked about everything.

    Where a whole group was rejected, because the reward finds no instruction in it, nothing was given.
    """
    run = folder / audit.runs[label]
    if not (run / RECORDS).exists():
        return None
    values: dict[int, list[float | None]] = {}
    unanswered: set[tuple[int, int]] = set()
    seen: dict[int, int] = {}
    for record in read_records(run):
        found = values.setdefault(record.row, [None] * record.group_size)
        found[record.response_index] = record.score.value
        if record.score.outcome in _NO_ANSWER:
            unanswered.add((record.row, record.response_index))
        seen[record.row] = seen.get(record.row, 0) | 1 << record.response_index
    prompts = read_prompts(folder)
    scores: list[dict[str, AttackScores]] = [{} for _ in prompts]
    summary = read_summary(run)
    rejected = summary.rejected_rows if summary else 0
    for row, asked in enumerate(list_groups(prompts, comparing=label in audit.comparing)):
        size = len(asked.group.responses)
        if row not in values:
            rejected -= 1
        elif len(values[row]) != size:
            raise RunError(f"{run} is damaged: row {row} has {len(values[row])} responses in place of {size}")
        given = values.get(row, [None] * size)
        if rejected < 0 or (row in values and seen[row] != (1 << size) - 1):
            return None
        genuine = tuple(given[: size - len(asked.attacks)])
        for index, attack in enumerate(asked.attacks, start=len(genuine)):
            scores[asked.prompt][attack] = AttackScores(given[index], genuine, (row, index) in unanswered)
    return scores
