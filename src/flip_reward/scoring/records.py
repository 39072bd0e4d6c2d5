"""Records: one JSON line for every scored response, in the order in which they were finished."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, Field, TypeAdapter

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Cost, Likelihood, Outcome, Part, Reading, Sample, Score, Usage

MOST_ROWS = 1 << 30
"""Of an input. A run folder remembers each row in a byte."""
MOST_RESPONSES = 1 << 24
"""Of a row."""
MOST_COUNTED = 1 << 53
"""Tokens and attempts: what readers of JSON and Parquet hold exactly."""


@dataclass(slots=True)
class Record:
    """A score and the response it belongs to, as it stands in a run folder."""

    row: int
    """The group's position in the input, from 0."""
    group_id: str
    group_size: int
    response_index: int
    instruction: str
    score: Score

    @property
    def id(self) -> str:
        """Names the response: the group's id, with the response's index when there are several."""
        return self.group_id if self.group_size == 1 else f"{self.group_id}#{self.response_index}"

    @property
    def completed(self) -> bool:
        """Whether a resumed run leaves it as it is; a failure of the engine is tried again."""
        return not self.score.outcome.retryable

    def to_line(self) -> bytes:
        """Return the record as one line of JSON."""
        return orjson.dumps(self.lay_out(), option=orjson.OPT_APPEND_NEWLINE)

    def lay_out(self) -> dict[str, object]:
        """Return the fields of `RecordLine`. orjson writes dictionaries in half the time that dataclasses take."""
        score, cost = self.score, self.score.cost
        usage = cost.usage
        return {
            "id": self.id,
            "row": self.row,
            "group_id": self.group_id,
            "group_size": self.group_size,
            "response_index": self.response_index,
            "outcome": score.outcome,
            "reward": score.value,
            "precision": score.precision,
            "recall": score.recall,
            "instruction": self.instruction,
            "inferred_instruction": score.inferred_instruction,
            "reasoning": score.reasoning,
            "raw_reply": score.raw_reply,
            "detail": score.detail,
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            },
            "attempts": cost.attempts,
            "latency_seconds": round(cost.latency_seconds, 6),
            "cached": cost.cached,
            "spread": score.spread,
            "samples": list(map(SampleLine.of, score.samples)) if score.samples else [],
            "likelihood": score.likelihood,
            "cautions": score.cautions,
            "parts": score.parts,
            "copied_share": score.copied_share,
            "other_reading": score.other_reading,
        }

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Read a record back; one of an earlier version lacks the newer fields. A ValueError where it is damaged."""
        fields = RecordLine.read(line)
        return cls(
            fields.row,
            fields.group_id,
            fields.group_size,
            fields.response_index,
            fields.instruction,
            _read_score(fields),
        )


def _read_score(fields: RecordLine) -> Score:
    return Score(
        fields.reward,
        fields.outcome,
        **_texts_and_parts(fields),
        detail=fields.detail,
        cost=Cost(fields.usage, fields.attempts, fields.latency_seconds, fields.cached),
        spread=fields.spread,
        samples=tuple(Sample(one.reward, one.outcome, **_texts_and_parts(one)) for one in fields.samples),
        likelihood=fields.likelihood,
        cautions=fields.cautions,
        parts=fields.parts,
        copied_share=fields.copied_share,
        other_reading=fields.other_reading,
    )


def _texts_and_parts(fields: RecordLine | SampleLine) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in _TEXTS_AND_PARTS}


_TEXTS_AND_PARTS = ("precision", "recall", "inferred_instruction", "reasoning", "raw_reply")
"""The fields that scores and samples share."""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """The fields of a sample as they stand in a record."""

    outcome: Outcome
    reward: float | None
    precision: float | None
    recall: float | None
    inferred_instruction: str | None
    reasoning: str | None
    raw_reply: str | None

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """Lay out a sample."""
        return cls(
            sample.outcome,
            sample.value,
            sample.precision,
            sample.recall,
            sample.inferred_instruction,
            sample.reasoning,
            sample.raw_reply,
        )


@dataclass
class RecordLine:
    """The fields of a record as they stand in `records.jsonl`, in JSON lines and in Parquet, in this order."""

    id: str
    row: int
    group_id: str
    group_size: int
    response_index: int
    outcome: Outcome
    reward: float | None
    precision: float | None
    recall: float | None
    instruction: str
    inferred_instruction: str | None
    reasoning: str | None
    raw_reply: str | None
    detail: str | None
    usage: Usage
    attempts: int
    latency_seconds: float
    cached: bool
    spread: float | None = None
    samples: tuple[SampleLine, ...] = ()
    likelihood: Likelihood | None = None
    cautions: tuple[Caution, ...] = ()
    parts: tuple[Part, ...] = ()
    copied_share: float | None = None
    other_reading: Reading | None = None

    @classmethod
    def read(cls, line: bytes) -> RecordLine:
        """Read the fields of a record from its line. A ValueError where it is damaged."""
        fields = _line_reader().validate_json(line, strict=True)
        if not (0 <= fields.row < MOST_ROWS and 0 <= fields.response_index < fields.group_size <= MOST_RESPONSES):
            raise ValueError("not a record: there is no such row or response")
        if (fields.reward is not None) != (fields.outcome is Outcome.SCORED):
            raise ValueError("not a record: it has a reward exactly when it is scored")
        usage, tokens = fields.usage, fields.likelihood.tokens if fields.likelihood else 0
        counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, fields.attempts, tokens)
        if max(counts) > MOST_COUNTED:
            raise ValueError("not a record: a count is too large")
        return fields


_Count = Annotated[int, Field(le=MOST_COUNTED)]


class CountedUsage(BaseModel):
    """Tokens of a record."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0


class CountedRecord(BaseModel):
    """The fields of a record that a run counts when it is resumed: to read no others takes half the time."""

    row: Annotated[int, Field(ge=0, lt=MOST_ROWS)]
    group_id: str
    group_size: Annotated[int, Field(le=MOST_RESPONSES)]
    response_index: Annotated[int, Field(ge=0)]
    outcome: Outcome
    reward: float | None
    detail: str | None
    usage: CountedUsage
    cached: bool
    cautions: tuple[Caution, ...] = ()

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Read them from a line. A ValueError where one is damaged."""
        found = cls.model_validate_json(line, strict=True)
        if found.response_index >= found.group_size or (found.reward is None) == (found.outcome is Outcome.SCORED):
            raise ValueError("not a record: there is no such response, or a reward without a score")
        return found


@cache
def _line_reader() -> TypeAdapter[RecordLine]:
    return TypeAdapter(RecordLine)
