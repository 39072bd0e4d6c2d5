from __future__ import annotations

import pyarrow as pa
import pytest

from flip_reward.core.cautions import Caution
from flip_reward.core.score import Outcome, Score
from flip_reward.data.added import added_columns, added_types, free_names, rejected_columns
from flip_reward.data.shapes import Shape
from flip_reward.data.tables.arrow import make_fields

CAUTIONS = (Caution.SHORT_RESPONSE, Caution.MOSTLY_CODE)
SCORE = Score(0.5, Outcome.SCORED, 0.25, 1.0, "Name it", "why", cautions=CAUTIONS, copied_share=0.5)
FAILED = Score(None, Outcome.EMPTY_REPLY, detail="the reply is empty")
PAIR = Shape(candidate_columns=("a b", "c"))
SHAPES = [Shape(), Shape(many=True), PAIR, Shape(candidate_columns=("a",), many=True)]


def test_one_response_has_plain_values() -> None:
    assert added_columns([SCORE], Shape()) == {
        "reward": 0.5, "outcome": "scored", "inferred_instruction": "Name it", "precision": 0.25, "recall": 1.0,
        "reasoning": "why", "detail": None, "cautions": "short_response, mostly_code",
        "copied_share": 0.5,
    }  # fmt: skip
    assert set(added_columns([None], Shape()).values()) == {None}


def test_several_responses_have_lists_or_columns_of_their_own() -> None:
    assert added_columns([SCORE, FAILED], Shape(many=True))["outcome"] == ["scored", "empty_reply"]
    pair = added_columns([FAILED, SCORE], PAIR)
    assert (pair["reward_a b"], pair["reward_c"], pair["detail_a b"]) == (None, 0.5, "the reply is empty")


@pytest.mark.parametrize("shape", SHAPES)
def test_scored_and_rejected_rows_have_the_columns_that_were_announced(shape: Shape) -> None:
    scores = [SCORE] if shape == Shape() else [SCORE, FAILED]
    scored, rejected = added_columns(scores, shape), rejected_columns("why", shape)
    assert list(scored) == list(rejected) == list(added_types(shape))
    table = pa.Table.from_pylist([scored, rejected], schema=pa.schema(make_fields(added_types(shape))))
    assert "rejected" in str(table.to_pylist()[1])


def test_names_that_are_taken_get_a_prefix() -> None:
    taken = {"reward", "flip_reward", "flip_2_reward", "flip_outcome"}
    assert free_names(["reward", "outcome"], taken) == {"reward": "flip_3_reward", "outcome": "outcome"}
