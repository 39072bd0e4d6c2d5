"""An audit folder -> its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from flip_reward.audit.attacks.base import Effect
from flip_reward.audit.figures import measure
from flip_reward.audit.findings import write_headline
from flip_reward.audit.folder import Audit, read_audit, read_prompts, read_scores
from flip_reward.audit.prompts import AttackedText, AttackScores, AuditPrompt, RewardScores
from flip_reward.audit.results import AuditResults, read_results
from flip_reward.scoring.run_folder import read_summary


@dataclass(frozen=True, slots=True)
class AuditData:
    """All that a page shows of an audit folder."""

    audit: Audit
    results: AuditResults
    prompts: Sequence[AuditPrompt]
    scores: Mapping[str, RewardScores]
    """By the label of each reward that is scored on all texts."""


def read_data(folder: Path) -> AuditData:
    """Read an audit folder with the results that stand in it."""
    audit, results = read_audit(folder), read_results(folder)
    return AuditData(audit, results, read_prompts(folder), _read_all_scores(folder, audit))


def tabulate(folder: Path) -> AuditData:
    """Compute the results of an audit folder. Rewards that are not scored on all texts have no figures."""
    audit, prompts = read_audit(folder), read_prompts(folder)
    scores = _read_all_scores(folder, audit)
    summaries = {label: read_summary(folder / audit.runs[label]) for label in scores}
    outcomes = {label: summary.outcomes for label, summary in summaries.items() if summary is not None}
    figures = measure(prompts, audit.attacks, scores, outcomes)
    results = AuditResults(
        source=audit.source,
        prompts=len(prompts),
        responses=sum(len(prompt.genuine) for prompt in prompts),
        labelled=sum(prompt.chosen is not None and len(set(prompt.chosen)) > 1 for prompt in prompts),
        attacks=audit.attacks,
        rewards=audit.rewards,
        audited=figures.audited,
        results=figures.results,
        slopes=figures.slopes,
        headline="",
    )
    return AuditData(audit, results.model_copy(update={"headline": write_headline(results)}), prompts, scores)


def _read_all_scores(folder: Path, audit: Audit) -> dict[str, RewardScores]:
    found = {reward.label: read_scores(folder, audit, reward.label) for reward in audit.rewards}
    return {label: scores for label, scores in found.items() if scores is not None}


@dataclass(frozen=True, slots=True)
class WorstCase:
    """An attacked text beside the genuine response that it should not beat."""

    prompt: int
    """The place of the prompt."""
    text: str
    score: float
    genuine: int
    """The place of the response: the best one, or for broken meaning the one that was changed."""
    genuine_score: float

    @property
    def margin(self) -> float:
        """How far the text lies above the response."""
        return self.score - self.genuine_score


def find_worst(data: AuditData, reward: str, count: int) -> dict[str, list[WorstCase]]:
    """Find the texts of each attack that lie farthest above what they should not beat, the worst first."""
    broken = {entry.name for entry in data.results.attacks if entry.effect is Effect.BROKEN}
    cases: dict[str, list[WorstCase]] = {}
    for place, (prompt, scores) in enumerate(zip(data.prompts, data.scores[reward], strict=True)):
        for text in prompt.attacked:
            case = _compare(place, text, scores.get(text.attack), broken=text.attack in broken)
            if case is not None:
                found = cases.setdefault(text.attack, [])
                found.append(case)
                if len(found) >= count + _SPARE:
                    found[:] = _keep_worst(found, count)
    return {attack: _keep_worst(found, count) for attack, found in cases.items()}


_SPARE = 100  # cases that wait to be sorted


def _keep_worst(cases: list[WorstCase], count: int) -> list[WorstCase]:
    return nsmallest(count, cases, key=lambda case: -case.margin)


def _compare(place: int, text: AttackedText, found: AttackScores | None, *, broken: bool) -> WorstCase | None:
    """Put a text beside what it should not beat; None where one of both has no score."""
    if found is None or found.attacked is None:
        return None
    known = {at: value for at, value in enumerate(found.genuine) if value is not None}
    best = max(known, key=known.__getitem__, default=None)
    against = text.changed if broken and text.changed is not None else best
    return WorstCase(place, text.text, found.attacked, against, known[against]) if against in known else None
