"""Texts by number, and scores that refer to them: each text stands once in a page, where long ones are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flip_reward.core.response import replace_lone_surrogates
from flip_reward.core.score import Outcome, Sample
from flip_reward.report.highlight import find_shared_tokens
from flip_reward.scoring.records import Record

ScoreRow = list[object]
"""A score without its trailing nulls; see `score_row`."""
REPLY_PLACE = 9
"""Where the reply stands in it, if there is any."""


@dataclass(slots=True)
class TextTable:
    """Texts by number, so that what several rewards share is stored once.

    Spare texts are cut at a quarter of the limit of the others, and so go first where there is no room.

    Example:
        >>> table = TextTable()
        >>> table.add("a"), table.add("bcd"), table.add("a")
        (0, 1, 0)
        >>> table.add("efghij", spare=True)
        2
        >>> table.cut(2)
        CutTexts(texts=['a', 'bc', ''], omitted=[(1, 1), (2, 6)])
    """

    _numbers: dict[str, int] = field(default_factory=dict)
    _needed: set[int] = field(default_factory=set)

    def add(self, text: str, *, spare: bool = False) -> int:
        """Return the number of a text. One that is spare here and needed elsewhere is needed."""
        number = self._numbers.setdefault(text, len(self._numbers))
        if not spare:
            self._needed.add(number)
        return number

    def cut(self, limit: int) -> CutTexts:
        """Return the texts by number, each with at most `limit` characters, spare ones with at most a quarter."""
        texts, omitted = [], []
        for text, number in self._numbers.items():
            most = limit if number in self._needed else limit // 4
            texts.append(replace_lone_surrogates(text[:most]))
            if len(text) > most:
                omitted.append((number, len(text) - most))
        return CutTexts(texts, omitted)


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts as the report holds them."""

    texts: list[str]
    omitted: list[tuple[int, int]]
    """The number of each text that was cut, and how many characters it lost."""


def score_row(record: Record, asked: str, normalizer: str, texts: TextTable) -> ScoreRow:
    """Return a score as the values that `readScore` in `page/data.js` names, in that order.

    Texts are numbers in the table, and trailing nulls are left out. Shared tokens are starts and ends of stretches of
    a text, in turn, in characters. The original instruction is there where it is not the user's last message
    (`asked`), and the reply as it came where nothing else shows it.
    """
    score = record.score
    other = score.other_reading
    inferred, shared_inferred, shared_original, instruction = None, None, None, None
    if score.inferred_instruction is not None:
        inferred = texts.add(score.inferred_instruction)
        shared = find_shared_tokens(score.inferred_instruction, record.instruction, normalizer)
        shared_inferred, shared_original = shared.inferred, shared.original
        instruction = None if record.instruction == asked else texts.add(record.instruction)
    explained = score.outcome is Outcome.SCORED and (score.inferred_instruction or score.reasoning)
    reply = None if explained else score.raw_reply
    row: ScoreRow = [
        round_figure(score.value),
        score.outcome.value,
        round_figure(score.precision),
        round_figure(score.recall),
        inferred,
        shared_inferred,
        shared_original,
        instruction,
        None if score.reasoning is None else texts.add(score.reasoning),
        None if reply is None else texts.add(reply),
        None if score.detail is None else texts.add(score.detail),
        round_figure(score.spread),
        _list_inferences(score.samples, texts),
        round_figure(score.copied_share) or None,
        other and [other.masked, round_figure(other.value), other.outcome, _list_inferences(other.samples, texts)],
    ]
    while row[-1] is None:
        row.pop()
    return row


def _list_inferences(
    samples: Sequence[Sample], texts: TextTable
) -> list[tuple[float | None, int | None, Outcome]] | None:
    return [
        (
            round_figure(sample.value),
            None if sample.inferred_instruction is None else texts.add(sample.inferred_instruction, spare=True),
            sample.outcome,
        )
        for sample in samples
    ] or None


def round_figure(value: float | None) -> float | None:
    """A figure with as many digits as the report needs."""
    return None if value is None else round(value, 5)
