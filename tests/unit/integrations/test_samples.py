from __future__ import annotations

import pytest

from flip_reward.core.conversation import Group, Message
from flip_reward.core.score import Outcome, Score
from flip_reward.errors import ConversationError
from flip_reward.integrations.samples import Batch, read_response

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}]


def test_the_last_message_of_the_assistant_is_the_response() -> None:
    completion: list[dict[str, object]] = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "plum"},
        {"role": "assistant", "content": [{"type": "text", "text": "A plum."}]},
    ]
    assert read_response(completion) == "A plum."
    assert read_response([Message("assistant", "A plum."), Message("tool", "done")]) == "A plum."
    assert read_response([]) == read_response([{"role": "tool", "content": "plum"}]) == ""


def test_an_image_is_no_response() -> None:
    with pytest.raises(ConversationError, match="no text"):
        read_response([{"role": "assistant", "content": [{"type": "image_url"}]}])


def test_samples_of_one_conversation_are_one_group_wherever_they_stand() -> None:
    batch = Batch.of([CHAT, "Name a bird.", CHAT], ["Apple.", "Owl.", [{"role": "assistant", "content": "Pear."}]])
    assert batch.groups == (Group.of(CHAT, ["Apple.", "Pear."]), Group.of("Name a bird.", "Owl."))
    scores = [[Score(0.1, Outcome.SCORED), Score(0.3, Outcome.SCORED)], [Score(0.2, Outcome.SCORED)]]
    assert [score.value for score in batch.in_order(scores)] == [0.1, 0.2, 0.3]


def test_prompts_and_completions_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Batch.of(["one", "two"], ["one"])
