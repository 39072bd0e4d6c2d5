"""The reply parser gives what the recorded replies demand."""

import json
from pathlib import Path

import pytest

from flip_reward.core.replies.parse import parse_inferred_instruction

GOLDEN = Path(__file__).parents[3] / "shared/parity/replies.jsonl"

if not GOLDEN.exists():
    pytest.skip("the recorded replies are not here", allow_module_level=True)

ROWS = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_reply(row: dict[str, str | None]) -> None:
    inferred = parse_inferred_instruction(row["raw"], row["finish_reason"])
    assert (inferred.status.value, inferred.instruction) == (row["outcome"], row["instruction"])
