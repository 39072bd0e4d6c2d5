"""Records: one JSON line for every scored response, in the order in which they were finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Likelihood, Outcome, Sample, Score, Usage


@dataclass(frozen=True, slots=True)
class Record:
    """A score and the response it belongs to, as it stands in a run folder.

    Attributes:
        row: The group's position in the input, from 0.
        group_id: The group's id, from the input or its position.
        group_size: How many responses the group has.
        response_index: Which of them this is, from 0.
        instruction: The original instruction.
        score: What it earned.
    """

    row: int
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
    def settled(self) -> bool:
        """Whether a resumed run leaves it as it is; a failure of the engine is tried again."""
        return not self.score.outcome.retryable

    def to_json(self) -> dict[str, object]:
        """Return the record's fields as they stand in the file."""
        score = self.score
        return {
            "id": self.id,
            "row": self.row,
            "group_id": self.group_id,
            "group_size": self.group_size,
            "response_index": self.response_index,
            "outcome": score.outcome.value,
            "reward": score.value,
            "precision": score.precision,
            "recall": score.recall,
            "instruction": self.instruction,
            "inferred_instruction": score.inferred_instruction,
            "reasoning": score.reasoning,
            "raw_reply": score.raw_reply,
            "detail": score.detail,
            "usage": {
                "prompt_tokens": score.usage.prompt_tokens,
                "completion_tokens": score.usage.completion_tokens,
                "cached_tokens": score.usage.cached_tokens,
            },
            "attempts": score.attempts,
            "latency_seconds": round(score.latency_seconds, 6),
            "cached": score.cached,
            "spread": score.spread,
            "samples": [sample_to_json(sample) for sample in score.samples],
            "likelihood": likelihood_to_json(score.likelihood),
            "cautions": [caution.value for caution in score.cautions],
        }

    def to_line(self) -> bytes:
        """Return the record as one line of JSON."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Read a record back; one of an earlier version lacks the newer fields.

        Raises:
            ValueError: The line is not a whole record.
        """
        try:
            fields = orjson.loads(line)
            usage = fields["usage"]
            score = Score(
                value=fields["reward"],
                outcome=Outcome(fields["outcome"]),
                precision=fields["precision"],
                recall=fields["recall"],
                inferred_instruction=fields["inferred_instruction"],
                reasoning=fields["reasoning"],
                raw_reply=fields["raw_reply"],
                detail=fields["detail"],
                usage=Usage(usage["prompt_tokens"], usage["completion_tokens"], usage["cached_tokens"]),
                attempts=fields["attempts"],
                latency_seconds=fields["latency_seconds"],
                cached=fields["cached"],
                spread=fields.get("spread"),
                samples=tuple(map(_sample_from_json, fields.get("samples", ()))),
                likelihood=_likelihood_from_json(fields.get("likelihood")),
                cautions=tuple(map(Caution, fields.get("cautions", ()))),
            )
            return cls(
                fields["row"],
                fields["group_id"],
                fields["group_size"],
                fields["response_index"],
                fields["instruction"],
                score,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error


def likelihood_to_json(likelihood: Likelihood | None) -> dict[str, object] | None:
    """Return the fields of a likelihood as they stand in a record."""
    if likelihood is None:
        return None
    return {
        "log_probability": likelihood.log_probability,
        "tokens": likelihood.tokens,
        "prior_log_probability": likelihood.prior_log_probability,
    }


def _likelihood_from_json(fields: Mapping[str, Any] | None) -> Likelihood | None:
    if fields is None:
        return None
    return Likelihood(fields["log_probability"], fields["tokens"], fields["prior_log_probability"])


def sample_to_json(sample: Sample) -> dict[str, object]:
    """Return the fields of a sample as they stand in a record."""
    return {
        "outcome": sample.outcome.value,
        "reward": sample.value,
        "precision": sample.precision,
        "recall": sample.recall,
        "inferred_instruction": sample.inferred_instruction,
        "reasoning": sample.reasoning,
        "raw_reply": sample.raw_reply,
    }


def _sample_from_json(fields: Mapping[str, Any]) -> Sample:
    return Sample(
        fields["reward"],
        Outcome(fields["outcome"]),
        fields["precision"],
        fields["recall"],
        fields["inferred_instruction"],
        fields["raw_reply"],
        fields["reasoning"],
    )
